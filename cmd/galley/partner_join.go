package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"galley"
	"galley/internal/durable"
	"galley/internal/partner"
)

func (a *app) partnerJoinCommand() *cobra.Command {
	var home, agreement, coordinator, cert, ca string
	c := &cobra.Command{
		Use: "join --home DIR --agreement FILE --coordinator HOST:PORT --server-cert FILE", Short: "Join a federation with an agreement",
		Long: `Join a federation: the agreement is handed to the coordinator, and the folder
keeps what was agreed with whom. The coordinator must have enrolled this
partner's certificate before.

The server is known by its own certificate, which its operator handed over: no
authority is asked, and no other server is spoken with. Joining again, with an
amended agreement or a new certificate of the server's, takes the place of what
was joined before; the rounds that were answered stay counted.`,
		Example: "  galley partner join --home agent --agreement agreement.yaml --coordinator federation.example.org:8003 --server-cert coordinator.crt\n" +
			"  galley partner join --home agent --agreement agreement.yaml --coordinator federation.example.org:8003 --server-ca ca.pem",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (cert == "") == (ca == "") {
				return usagef("give the server's certificate with --server-cert, or that of its CA with --server-ca")
			}
			j := partner.Joining{Coordinator: coordinator, CA: ca != "", Dial: a.overhearAgent}
			var terms galley.Digest
			file, parsed, err := partner.ReadAgreement(agreement)
			if err != nil {
				return err
			}
			j.Agreement, terms = file, parsed.Digest()
			path := cert + ca
			if j.Server, err = os.ReadFile(path); err != nil {
				return durable.ReadError(path, err)
			}
			if _, err := partner.Join(cmd.Context(), home, j, revision, time.Now); err != nil {
				return err
			}
			if a.json {
				a.printJSON(map[string]any{"partner": parsed.Partner, "federation": parsed.Federation, "agreement": terms, "coordinator": coordinator})
				return nil
			}
			fmt.Fprintf(a.out, "%s has joined %s at %s\n  agreement  %s\n", parsed.Partner, parsed.Federation, coordinator, terms)
			return nil
		},
	}
	partnerHome(c, &home)
	c.Flags().StringVar(&agreement, "agreement", "", "file with the agreement (required)")
	c.Flags().StringVar(&coordinator, "coordinator", "", "address of the coordinator, HOST:PORT (required)")
	c.Flags().StringVar(&cert, "server-cert", "", "file with the coordinator's own certificate")
	c.Flags().StringVar(&ca, "server-ca", "", "file with the CA that the coordinator's certificate comes from, instead")
	cobra.CheckErr(c.MarkFlagRequired("agreement"))
	cobra.CheckErr(c.MarkFlagRequired("coordinator"))
	return c
}

package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"galley"
	"galley/federation"
	"galley/internal/partner"
)

// partnerCommand is the side of a partner institution: it needs no server of
// its own.
func (a *app) partnerCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "partner", Short: "Take part in federated rounds as a partner institution",
		Long: `Take part in federated rounds as a partner institution: a model is trained on
this institution's own texts, here, and what leaves is the change of its
weights, a number of rows and some metrics, as an agreement of this
institution's own permits.

A partner keeps keys and state in a folder of its own, --home, which has no
default. It connects to the coordinator; nothing connects to it.`,
		Example: "  galley partner keygen --home agent --partner harbour-gazette\n" +
			"  galley partner join --home agent --agreement agreement.yaml --coordinator federation.example.org:8003 --server-cert coordinator.crt\n" +
			"  galley partner serve --home agent --data train.csv",
	}
	c.AddCommand(a.partnerKeygenCommand(), a.partnerAgreementCommand(), a.partnerJoinCommand(), a.partnerServeCommand(), a.partnerStatusCommand())
	return c
}

// partnerHome adds the folder of an agent, in place of the server's.
func partnerHome(c *cobra.Command, home *string) {
	c.Flags().StringVar(home, "home", "", "folder of the agent's key and state (required)")
	cobra.CheckErr(c.MarkFlagRequired("home"))
}

func (a *app) partnerKeygenCommand() *cobra.Command {
	var home, name string
	var days int
	var rotate bool
	c := &cobra.Command{
		Use: "keygen --home DIR --partner NAME", Short: "Make the key of a partner and its certificate",
		Long: `Make the key of a partner and its certificate. The certificate, partner.crt, is
for the coordinator's operator, who enrols it; the key never leaves the folder.

With --rotate the next key is made. The agent, also one that is serving, uses it
as soon as the coordinator has enrolled its certificate, partner-next.crt.`,
		Example: "  galley partner keygen --home agent --partner harbour-gazette\n  galley partner keygen --home agent --rotate --days 180",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var made partner.Identity
			var path string
			var err error
			switch {
			case rotate && name != "":
				return usagef("--partner: leave it out, the next key is of the same partner")
			case rotate:
				made, path, err = partner.Rotate(home, days, time.Now())
			case name == "":
				return usagef("--partner NAME is missing; see galley partner keygen --help")
			default:
				made, path, err = partner.Keygen(home, name, days, time.Now())
			}
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(map[string]any{"partner": made.Partner, "certificate": path, "fingerprint": made.Fingerprint(), "expires": made.Certificate.NotAfter})
				return nil
			}
			fmt.Fprintf(a.out, "%s  %s\n", made.Partner, made.Fingerprint())
			fmt.Fprintf(a.out, "give %s to the coordinator's operator, and let them read you the fingerprint; it is valid until %s\n", path, made.Certificate.NotAfter.Format(time.DateOnly))
			return nil
		},
	}
	partnerHome(c, &home)
	c.Flags().StringVar(&name, "partner", "", "the partner's name, as agreements have it")
	c.Flags().IntVar(&days, "days", 365, fmt.Sprintf("how long the certificate is valid, at most %d", partner.MaxDays))
	c.Flags().BoolVar(&rotate, "rotate", false, "make the next key, beside the present one")
	return c
}

// An agreementJSON is an agreement with what it is named by.
type agreementJSON struct {
	Digest galley.Digest `json:"digest"`
	federation.Agreement
}

func (a *app) partnerAgreementCommand() *cobra.Command {
	return &cobra.Command{
		Use: "agreement FILE", Short: "Check an agreement, and print its digest",
		Long: `Check an agreement and print its digest, which is part of each update that is
signed under it. Every mistake is reported with its place.`,
		Example: "  galley partner agreement agreement.yaml\n  galley partner agreement agreement.yaml -o json",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			_, agreement, err := partner.ReadAgreement(args[0])
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(agreementJSON{agreement.Digest(), agreement})
				return nil
			}
			a.printAgreement(agreement)
			return nil
		},
	}
}

// printAgreement says in words what an agreement permits.
func (a *app) printAgreement(g federation.Agreement) {
	fmt.Fprintln(a.out, g.Digest())
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	line("partner", "%s", g.Partner)
	line("federation", "%s: %s", g.Federation, g.Purpose)
	line("models", "%v, at most %d rounds, each with %d partners at least", g.Models, g.Rounds, g.MinCohort)
	line("ends", "%s", g.Expires.UTC().Format(time.RFC3339))
	weights := "stay"
	if g.Leaves.Weights {
		weights = "leave"
		if g.Clip > 0 {
			weights += fmt.Sprintf(", as changes of a norm of %g at most", g.Clip)
		}
	}
	line("weights", "%s", weights)
	line("rows", "%s", g.Leaves.Rows)
	line("metrics", "%v", g.Leaves.Metrics)
	if len(g.Requires) > 0 {
		line("requires", "%v", g.Requires)
	}
	w.Flush()
}

package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	controlpb "galley/api/control/v1"

	"galley"
)

func (a *app) federationCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "federation", Short: "Enrol partners, and see what their rounds were made of",
		Long: `Enrol partner institutions for federated training, and see what rounds were made
of. A partner's agent calls the port of galley up --partners with the certificate
that galley partner keygen wrote there; it is enrolled here, and known by itself:
there is no authority that could make others.`,
		Example: "  galley federation enrol harbour-gazette --cert harbour-gazette.crt\n  galley federation partners\n  galley federation show JOB",
	}
	c.AddCommand(
		a.federationEnrolCommand(), a.federationPartnersCommand(), a.federationRevokeCommand(), a.federationReinstateCommand(),
		a.federationShowCommand(), a.federationRoundsCommand(), a.federationRoundCommand(), a.federationAgreementCommand(),
	)
	return c
}

type enrolledPartner struct {
	Partner     string           `json:"partner"`
	Fingerprint string           `json:"fingerprint"`
	Expires     time.Time        `json:"expires"`
	Enrolled    time.Time        `json:"enrolled"`
	Revoked     string           `json:"revoked,omitempty"`
	Connected   bool             `json:"connected"`
	Memberships []membershipJSON `json:"memberships"`
}

type membershipJSON struct {
	Federation string    `json:"federation"`
	Agreement  string    `json:"agreement"`
	Expires    time.Time `json:"expires"`
}

func enrolledOf(p *controlpb.Partner) enrolledPartner {
	out := enrolledPartner{
		Partner: p.GetPartner(), Fingerprint: p.GetFingerprint(), Expires: p.GetExpires().AsTime(), Enrolled: p.GetEnrolled().AsTime(),
		Revoked: p.GetRevoked(), Connected: p.GetConnected(), Memberships: []membershipJSON{},
	}
	for _, m := range p.GetMemberships() {
		out.Memberships = append(out.Memberships, membershipJSON{m.GetFederation(), m.GetAgreement(), m.GetExpires().AsTime()})
	}
	return out
}

// changePartner asks for a change of a partner and prints the partner.
func (a *app) changePartner(cmd *cobra.Command, did string, ask func(*client) (*controlpb.Partner, error)) error {
	return a.with(cmd.Context(), func(c *client) error {
		p, err := ask(c)
		if err != nil {
			return err
		}
		if a.json {
			a.printJSON(enrolledOf(p))
			return nil
		}
		fmt.Fprintf(a.out, "%s  %s  %s  certificate until %s\n", did, p.GetPartner(), p.GetFingerprint(), p.GetExpires().AsTime().Format(time.DateOnly))
		return nil
	})
}

func (a *app) federationEnrolCommand() *cobra.Command {
	request := &controlpb.EnrolPartnerRequest{}
	var file string
	c := &cobra.Command{
		Use: "enrol NAME", Short: "Take in a partner's certificate",
		Long: `Take in a partner's certificate, as galley partner keygen wrote it. Compare its
fingerprint, which is printed, with the partner's on another way than the file
came.`,
		Example: "  galley federation enrol harbour-gazette --cert harbour-gazette.crt\n  galley federation enrol harbour-gazette --cert next.crt --replace",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if request.Certificate, err = os.ReadFile(file); err != nil {
				return fileError(file, err)
			}
			request.Partner = args[0]
			return a.changePartner(cmd, "enrolled", func(c *client) (*controlpb.Partner, error) { return c.federations.EnrolPartner(cmd.Context(), request) })
		},
	}
	c.Flags().StringVar(&file, "cert", "", "file with the partner's certificate, in PEM")
	c.Flags().BoolVar(&request.Replace, "replace", false, "in place of the certificate that the partner has: its connections end")
	// It fails for a flag that is not there.
	_ = c.MarkFlagRequired("cert")
	return c
}

func (a *app) federationPartnersCommand() *cobra.Command {
	return &cobra.Command{
		Use: "partners", Short: "List partners and what they have joined", Example: "  galley federation partners",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				r, err := c.federations.ListPartners(cmd.Context(), &controlpb.ListPartnersRequest{})
				if err != nil {
					return err
				}
				if a.json {
					all := []enrolledPartner{}
					for _, p := range r.GetPartners() {
						all = append(all, enrolledOf(p))
					}
					a.printJSON(map[string]any{"partners": all})
					return nil
				}
				w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "PARTNER\tSTATE\tCERTIFICATE UNTIL\tFINGERPRINT\tJOINED")
				for _, p := range r.GetPartners() {
					var joined []string
					for _, m := range p.GetMemberships() {
						joined = append(joined, fmt.Sprintf("%s until %s", m.GetFederation(), m.GetExpires().AsTime().Format(time.DateOnly)))
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", p.GetPartner(), stateOfPartner(p), p.GetExpires().AsTime().Format(time.DateOnly),
						galley.Digest(p.GetFingerprint()).Short(), dash(strings.Join(joined, ", ")))
				}
				return w.Flush()
			})
		},
	}
}

func stateOfPartner(p *controlpb.Partner) string {
	switch {
	case p.GetRevoked() != "":
		return "revoked: " + p.GetRevoked()
	case p.GetConnected():
		return "connected"
	default:
		return "away"
	}
}

func (a *app) federationRevokeCommand() *cobra.Command {
	request := &controlpb.RevokePartnerRequest{}
	c := &cobra.Command{
		Use: "revoke NAME", Short: "End a partner's access",
		Long: `End a partner's access: its connections are closed, and rounds that are open go on
without it and its update. Rounds that are closed stay as they are.`,
		Example: "  galley federation revoke harbour-gazette --reason 'the key was on a lost laptop'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Partner = args[0]
			return a.changePartner(cmd, "revoked", func(c *client) (*controlpb.Partner, error) {
				return c.federations.RevokePartner(cmd.Context(), request)
			})
		},
	}
	c.Flags().StringVar(&request.Reason, "reason", "", "why, for the record")
	// It fails for a flag that is not there.
	_ = c.MarkFlagRequired("reason")
	return c
}

func (a *app) federationReinstateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reinstate NAME", Short: "Give a partner its access back, from the next round on",
		Example: "  galley federation reinstate harbour-gazette",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changePartner(cmd, "reinstated", func(c *client) (*controlpb.Partner, error) {
				return c.federations.ReinstatePartner(cmd.Context(), &controlpb.PartnerRequest{Partner: args[0]})
			})
		},
	}
}

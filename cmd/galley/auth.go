package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlpb "galley/api/control/v1"

	"galley"
)

func (a *app) authCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "auth", Short: "Say who may call the server",
		Example: "  galley auth token create --role application --name cms",
	}
	token := &cobra.Command{
		Use: "token", Short: "Make, list, revoke and rotate tokens",
		Long: `Make, list, revoke and rotate tokens. Only an admin may.

A server that other machines reach asks each caller for a token, in
GALLEY_TOKEN or as the header "Authorization: Bearer TOKEN". Make the first
admin's with --local, while no server has the home.`,
		Example: "  galley auth token create --role admin --name root --local\n  galley auth token list",
	}
	token.AddCommand(a.tokenCreateCommand(), a.tokenListCommand(), a.tokenRevokeCommand(), a.tokenRotateCommand())
	c.AddCommand(token)
	return c
}

func (a *app) tokenCreateCommand() *cobra.Command {
	var r controlpb.CreateTokenRequest
	var expires string
	c := &cobra.Command{
		Use: "create", Short: "Make a token; it is shown once",
		Long: `Make a token. It is shown once: galley keeps its digest only.

A role says what the token opens: viewer, engineer, operator, application,
partner or admin. With a tenant, such as a desk or an institution, it changes
only models, datasets and jobs whose names that tenant was the first to use.`,
		Example: "  galley auth token create --role application --name cms\n  galley auth token create --role engineer --name anna --tenant sports-desk --expires 30d",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if r.Lifetime, err = parseLifetime("--expires", expires); err != nil {
				return err
			}
			return a.makeToken(cmd.Context(), func(ctx context.Context, c *client) (*controlpb.NewToken, error) {
				return c.access.CreateToken(ctx, &r)
			})
		},
	}
	c.Flags().StringVar(&r.Role, "role", "", "viewer, engineer, operator, application, partner or admin")
	c.Flags().StringVar(&r.Name, "name", "", "who bears it, for the audit log; its id if empty")
	c.Flags().StringVar(&r.Tenant, "tenant", "", "whose names it may change; all names if empty")
	c.Flags().StringVar(&expires, "expires", "90d", "how long it lives: 90d, 12h, or never")
	_ = c.MarkFlagRequired("role")
	return c
}

func (a *app) tokenRotateCommand() *cobra.Command {
	var expires, overlap string
	c := &cobra.Command{
		Use: "rotate ID", Short: "Make a token in place of another, which lives on for a while",
		Example: "  galley auth token rotate nx2cl5vd3w6omwqk\n  galley auth token rotate nx2cl5vd3w6omwqk --overlap 1h",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			r := &controlpb.RotateTokenRequest{Id: args[0]}
			if r.Lifetime, err = parseLifetime("--expires", expires); err != nil {
				return err
			}
			if r.Overlap, err = parseLifetime("--overlap", overlap); err != nil {
				return err
			}
			return a.makeToken(cmd.Context(), func(ctx context.Context, c *client) (*controlpb.NewToken, error) {
				return c.access.RotateToken(ctx, r)
			})
		},
	}
	c.Flags().StringVar(&expires, "expires", "90d", "how long the new one lives: 90d, 12h, or never")
	c.Flags().StringVar(&overlap, "overlap", "24h", "how long the old one lives on; 0s ends it at once")
	return c
}

// makeToken prints a token that is made: to people the secret alone on
// stdout, so that a script can take it.
func (a *app) makeToken(ctx context.Context, ask func(context.Context, *client) (*controlpb.NewToken, error)) error {
	return a.with(ctx, func(c *client) error {
		made, err := ask(ctx, c)
		if err != nil {
			return err
		}
		if a.json {
			t := tokenJSON(made.GetAbout())
			t.Token = made.GetToken()
			a.printJSON(t)
			return nil
		}
		t := made.GetAbout()
		fmt.Fprintf(a.err, "token %s of %s, role %s, expires %s; it is shown this once:\n", t.GetId(), t.GetName(), t.GetRole(), moment(t.GetExpires(), "never"))
		fmt.Fprintln(a.out, made.GetToken())
		return nil
	})
}

func (a *app) tokenListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List tokens, without their secrets",
		Example: "  galley auth token list", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				answer, err := c.access.ListTokens(cmd.Context(), &controlpb.ListTokensRequest{})
				if err != nil {
					return err
				}
				if a.json {
					list := []tokenInfo{}
					for _, t := range answer.GetTokens() {
						list = append(list, tokenJSON(t))
					}
					a.printJSON(map[string]any{"tokens": list})
					return nil
				}
				w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "ID\tNAME\tROLE\tTENANT\tSTATE\tEXPIRES")
				for _, t := range answer.GetTokens() {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", t.GetId(), t.GetName(), t.GetRole(), dash(t.GetTenant()), t.GetState(), moment(t.GetExpires(), "never"))
				}
				return w.Flush()
			})
		},
	}
}

func (a *app) tokenRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "End a token at once",
		Example: "  galley auth token revoke nx2cl5vd3w6omwqk", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				t, err := c.access.RevokeToken(cmd.Context(), &controlpb.RevokeTokenRequest{Id: args[0]})
				if err != nil {
					return err
				}
				if a.json {
					a.printJSON(tokenJSON(t))
					return nil
				}
				fmt.Fprintf(a.out, "%s of %s was revoked on %s\n", t.GetId(), t.GetName(), moment(t.GetRevoked(), ""))
				return nil
			})
		},
	}
}

// A tokenInfo is a token as -o json tells it. Token is its secret, there only
// when it is made.
type tokenInfo struct {
	ID       string     `json:"id"`
	Token    string     `json:"token,omitempty"`
	Name     string     `json:"name"`
	Role     string     `json:"role"`
	Tenant   string     `json:"tenant,omitempty"`
	State    string     `json:"state"`
	Created  *time.Time `json:"created"`
	Expires  *time.Time `json:"expires,omitempty"`
	Revoked  *time.Time `json:"revoked,omitempty"`
	Replaces string     `json:"replaces,omitempty"`
}

func tokenJSON(t *controlpb.Token) tokenInfo {
	at := func(ts *timestamppb.Timestamp) *time.Time {
		if ts == nil {
			return nil
		}
		u := ts.AsTime()
		return &u
	}
	return tokenInfo{
		ID: t.GetId(), Name: t.GetName(), Role: t.GetRole(), Tenant: t.GetTenant(), State: t.GetState(), Replaces: t.GetReplaces(),
		Created: at(t.GetCreated()), Expires: at(t.GetExpires()), Revoked: at(t.GetRevoked()),
	}
}

// moment writes a time for people.
func moment(t *timestamppb.Timestamp, none string) string {
	if t == nil {
		return none
	}
	return t.AsTime().Local().Format("2006-01-02 15:04")
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// parseLifetime reads a duration, of days too; "never" is none.
func parseLifetime(flag, s string) (*durationpb.Duration, error) {
	if s == "never" {
		return durationpb.New(0), nil
	}
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n uint64
		if n, err = strconv.ParseUint(days, 10, 16); err == nil {
			d = time.Duration(n) * 24 * time.Hour
		}
	}
	if err != nil || d < 0 {
		return nil, usagef("%s %s: write days as 90d, hours as 12h, or never", flag, s)
	}
	if d == 0 && flag == "--expires" {
		return nil, usagef("%s %s: a token that lives for ever is --expires never", flag, s)
	}
	return durationpb.New(d), nil
}

// needAdmin refuses to serve ports that ask for tokens where no token could
// make others.
func needAdmin(home string) error {
	return galley.Errorf(galley.FailedPrecondition, home, "has no live token with the role admin, and the server is to ask for tokens").
		WithRemedy("make one first: galley auth token create --role admin --name root --local --home %s", home)
}

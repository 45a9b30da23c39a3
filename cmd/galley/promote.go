package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	controlpb "galley/api/control/v1"

	"galley/internal/rpc"
)

func (a *app) modelsPromoteCommand() *cobra.Command {
	var expect int64
	request := &controlpb.PromoteRequest{}
	c := &cobra.Command{
		Use: "promote REF ALIAS", Short: "Point an alias at a version",
		Long: `Point an alias at a version. Traffic without a version follows the alias prod.

Alias prod has a gate: the version is compared with the one in production, on
the test split of the data it was trained on or on --data, and refused if it is
worse or slower than the gate allows. The command says which checks failed and
exits 1. --force promotes it all the same; the reason is recorded.`,
		Example: "  galley models promote news-topic@2 prod\n  galley models promote news-topic@2 prod --expect 4\n" +
			"  galley models promote news-topic@2 prod --force --reason 'the old labels are wrong'",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if request.Force && request.Reason == "" {
				return usagef("promote: --force needs --reason")
			}
			if request.Split != "" && request.Dataset == "" {
				return usagef("promote: --split needs --data")
			}
			request.Ref, request.Alias = args[0], args[1]
			if cmd.Flags().Changed("expect") {
				request.Expect = &expect
			}
			return a.with(cmd.Context(), func(c *client) error { return a.promote(cmd.Context(), c, request) })
		},
	}
	f := c.Flags()
	f.Int64Var(&expect, "expect", 0, "refuse if the alias is not at this generation")
	f.BoolVar(&request.Force, "force", false, "promote against the gate")
	f.StringVar(&request.Reason, "reason", "", "why, for the record")
	f.StringVar(&request.Dataset, "data", "", "a registered dataset for the gate to compare on; that of the version if not given")
	f.StringVar(&request.Split, "split", "", "of --data: train, valid or test; test if not given")
	return c
}

func (a *app) promote(ctx context.Context, c *client, request *controlpb.PromoteRequest) error {
	change, err := c.control.Promote(ctx, request)
	if err != nil {
		checks := refusedChecks(err)
		if len(checks) == 0 || !a.json {
			return err
		}
		e := rpc.FromStatus(err)
		fmt.Fprintf(a.err, "galley: %v\n", e)
		a.printJSON(map[string]any{"error": e, "gate": map[string]any{"passed": false, "checks": checks}})
		return errReported
	}
	if !a.json {
		printGate(a.out, change.GetGate().AsMap(), "")
	}
	a.printChange(change)
	return nil
}

// A checkJSON is a check of a gate.
type checkJSON struct {
	Name   string `json:"name"`
	Passed bool   `json:"passed"`
	Detail string `json:"detail"`
}

// refusedChecks are the failed checks that the error of a promotion lists.
func refusedChecks(err error) []checkJSON {
	var checks []checkJSON
	for _, detail := range status.Convert(err).Details() {
		failure, ok := detail.(*errdetails.PreconditionFailure)
		if !ok {
			continue
		}
		for _, v := range failure.GetViolations() {
			if v.GetType() == "gate" {
				checks = append(checks, checkJSON{Name: v.GetSubject(), Detail: v.GetDescription()})
			}
		}
	}
	return checks
}

// printGate writes a verdict for people, a check a line.
func printGate(w io.Writer, verdict map[string]any, indent string) {
	checks, _ := verdict["checks"].([]any)
	for _, x := range checks {
		check, _ := x.(map[string]any)
		mark := "ok    "
		if passed, _ := check["passed"].(bool); !passed {
			mark = "FAILED"
		}
		fmt.Fprintf(w, "%s%s  %v: %v\n", indent, mark, check["name"], check["detail"])
	}
}

type changeJSON struct {
	Name       string         `json:"name"`
	Alias      string         `json:"alias"`
	From       string         `json:"from"`
	To         string         `json:"to"`
	Generation int64          `json:"generation"`
	Move       string         `json:"move"`
	By         string         `json:"by"`
	Time       time.Time      `json:"time"`
	Reason     string         `json:"reason,omitempty"`
	Report     string         `json:"report,omitempty"`
	Gate       map[string]any `json:"gate,omitempty"`
}

func changeOf(c *controlpb.AliasChange) changeJSON {
	return changeJSON{
		Name: c.GetName(), Alias: c.GetAlias(), From: c.GetFrom(), To: c.GetTo(), Generation: c.GetGeneration(), Move: c.GetMove(),
		By: c.GetBy(), Time: c.GetTime().AsTime(), Reason: c.GetReason(), Report: c.GetReport(), Gate: c.GetGate().AsMap(),
	}
}

func (a *app) printChange(c *controlpb.AliasChange) {
	if a.json {
		a.printJSON(changeOf(c))
		return
	}
	from := c.GetFrom()
	if from == "" {
		from = "nothing"
	}
	fmt.Fprintf(a.out, "%s:%s  %s -> %s  (generation %d)\n", c.GetName(), c.GetAlias(), from, c.GetTo(), c.GetGeneration())
}

func (a *app) modelsHistoryCommand() *cobra.Command {
	var limit int32
	c := &cobra.Command{
		Use: "history NAME [ALIAS]", Short: "List where aliases pointed, who moved them and why",
		Example: "  galley models history news-topic\n  galley models history news-topic prod --limit 5",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			request := &controlpb.AliasHistoryRequest{Name: args[0], Limit: limit}
			if len(args) == 2 {
				request.Alias = args[1]
			}
			return a.with(cmd.Context(), func(c *client) error {
				r, err := c.control.AliasHistory(cmd.Context(), request)
				if err != nil {
					return err
				}
				if a.json {
					changes := []changeJSON{}
					for _, c := range r.GetChanges() {
						changes = append(changes, changeOf(c))
					}
					a.printJSON(map[string]any{"changes": changes})
					return nil
				}
				w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "TIME\tALIAS\tGENERATION\tMOVE\tFROM\tTO\tBY\tREASON")
				for _, c := range r.GetChanges() {
					fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", c.GetTime().AsTime().Local().Format(time.DateTime),
						c.GetAlias(), c.GetGeneration(), c.GetMove(), c.GetFrom(), c.GetTo(), c.GetBy(), c.GetReason())
				}
				return w.Flush()
			})
		},
	}
	c.Flags().Int32Var(&limit, "limit", 0, "of each alias, the newest first; 100 if not given, at most 1000")
	return c
}

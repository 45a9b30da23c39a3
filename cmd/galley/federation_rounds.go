package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/federation"
)

type federationJSON struct {
	Job        string     `json:"job"`
	Federation string     `json:"federation"`
	State      string     `json:"state"`
	Rounds     int32      `json:"rounds"`
	Closed     int32      `json:"closed"`
	Base       string     `json:"base"`
	Members    []string   `json:"members"`
	Round      *roundJSON `json:"round,omitempty"`
	Waiting    string     `json:"waiting,omitempty"`
	Failure    string     `json:"failure,omitempty"`
}

type roundJSON struct {
	Round     int32              `json:"round"`
	Attempt   int32              `json:"attempt"`
	Phase     string             `json:"phase"`
	Opened    time.Time          `json:"opened"`
	Deadline  time.Time          `json:"deadline"`
	Ended     *time.Time         `json:"ended,omitempty"`
	Aggregate string             `json:"aggregate,omitempty"`
	Failure   string             `json:"failure,omitempty"`
	Seen      bool               `json:"coordinator_saw_single_updates"`
	Cohort    []roundPartJSON    `json:"cohort"`
	Metrics   map[string]float64 `json:"metrics,omitempty"`
	Digest    string             `json:"digest,omitempty"`
	Record    json.RawMessage    `json:"record,omitempty"`
}

type roundPartJSON struct {
	Partner   string  `json:"partner"`
	Standing  string  `json:"standing"`
	Why       string  `json:"why,omitempty"`
	Share     float64 `json:"share"`
	Rows      int64   `json:"rows"`
	Refusal   string  `json:"refusal,omitempty"`
	Agreement string  `json:"agreement"`
}

func roundInfoOf(r *controlpb.Round) roundJSON {
	out := roundJSON{
		Round: r.GetRound(), Attempt: r.GetAttempt(), Phase: r.GetPhase(), Opened: r.GetOpened().AsTime(), Deadline: r.GetDeadline().AsTime(),
		Aggregate: r.GetAggregate(), Failure: r.GetFailure(), Seen: r.GetCoordinatorSawSingleUpdates(), Cohort: []roundPartJSON{},
		Metrics: r.GetMetrics(), Digest: r.GetDigest(),
	}
	if r.GetEnded() != nil {
		at := r.GetEnded().AsTime()
		out.Ended = &at
	}
	for _, p := range r.GetCohort() {
		out.Cohort = append(out.Cohort, roundPartJSON{p.GetPartner(), p.GetStanding(), p.GetWhy(), p.GetShare(), p.GetRows(), p.GetRefusal(), p.GetAgreement()})
	}
	if json.Valid([]byte(r.GetRecord())) {
		out.Record = json.RawMessage(r.GetRecord())
	}
	return out
}

func (a *app) federationShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show JOB", Short: "Show where a federated run stands", Example: "  galley federation show JOB",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				f, err := c.federations.GetFederation(cmd.Context(), &controlpb.FederationRequest{Job: args[0]})
				if err != nil {
					return err
				}
				a.printFederation(f)
				return nil
			})
		},
	}
}

func (a *app) printFederation(f *controlpb.Federation) {
	if a.json {
		out := federationJSON{
			Job: f.GetJob(), Federation: f.GetFederation(), State: f.GetState(), Rounds: f.GetRounds(), Closed: f.GetClosed(), Base: f.GetBase(),
			Members: append([]string{}, f.GetMembers()...), Waiting: f.GetWaiting(), Failure: f.GetFailure(),
		}
		if f.GetRound() != nil {
			round := roundInfoOf(f.GetRound())
			out.Round = &round
		}
		a.printJSON(out)
		return
	}
	fmt.Fprintf(a.out, "%s  %s  %s  %d of %d rounds\n", f.GetJob(), f.GetFederation(), f.GetState(), f.GetClosed(), f.GetRounds())
	fmt.Fprintf(a.out, "  %-8s %s\n", "members", strings.Join(orNone(f.GetMembers()), ", "))
	fmt.Fprintf(a.out, "  %-8s %s\n", "base", f.GetBase())
	if f.GetWaiting() != "" {
		fmt.Fprintf(a.out, "waits: %s\n", f.GetWaiting())
	}
	if f.GetFailure() != "" {
		fmt.Fprintf(a.out, "failed: %s\n", f.GetFailure())
	}
	if f.GetRound() != nil {
		a.printRound(f.GetRound())
	}
}

func (a *app) federationRoundsCommand() *cobra.Command {
	request := &controlpb.ListRoundsRequest{}
	c := &cobra.Command{
		Use: "rounds JOB", Short: "List a run's rounds that have ended, the newest first", Example: "  galley federation rounds JOB --limit 10",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Job = args[0]
			return a.with(cmd.Context(), func(c *client) error {
				r, err := c.federations.ListRounds(cmd.Context(), request)
				if err != nil {
					return err
				}
				if a.json {
					all := []roundJSON{}
					for _, round := range r.GetRounds() {
						all = append(all, roundInfoOf(round))
					}
					a.printJSON(map[string]any{"rounds": all})
					return nil
				}
				w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "ROUND\tATTEMPT\tPHASE\tUPDATES\tASKED\tTOOK\tMETRICS\tFAILURE")
				for _, round := range r.GetRounds() {
					fmt.Fprintf(w, "%d\t%d\t%s\t%d\t%d\t%s\t%s\t%s\n", round.GetRound(), round.GetAttempt(), round.GetPhase(), accepted(round), len(round.GetCohort()),
						roundTook(round), dash(metricsLine(round.GetMetrics())), dash(round.GetFailure()))
				}
				return w.Flush()
			})
		},
	}
	c.Flags().Int32Var(&request.Limit, "limit", 0, "the newest; 100 if not given, at most 1000")
	return c
}

func (a *app) federationRoundCommand() *cobra.Command {
	request := &controlpb.RoundRequest{}
	c := &cobra.Command{
		Use: "round JOB NUMBER", Short: "Show the record of a round",
		Long: `Show the record of one attempt at a round: who was asked, what came, what became
of it and why. -o json has all of it, and the digest that lineage names it by.`,
		Example: "  galley federation round JOB 3\n  galley federation round JOB 3 --attempt 1 -o json",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			number, err := strconv.ParseInt(args[1], 10, 32)
			if err != nil || number < 1 {
				return usagef("federation round: %q is not the number of a round", args[1])
			}
			request.Job, request.Round = args[0], int32(number)
			return a.with(cmd.Context(), func(c *client) error {
				r, err := c.federations.GetRound(cmd.Context(), request)
				if err != nil {
					return err
				}
				if a.json {
					a.printJSON(roundInfoOf(r))
					return nil
				}
				a.printRound(r)
				fmt.Fprintf(a.out, "  %-8s %s\n", "record", r.GetDigest())
				return nil
			})
		},
	}
	c.Flags().Int32Var(&request.Attempt, "attempt", 0, "at the round; the last one if not given")
	return c
}

func (a *app) printRound(r *controlpb.Round) {
	fmt.Fprintf(a.out, "round %d, attempt %d: %s\n", r.GetRound(), r.GetAttempt(), r.GetPhase())
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  PARTNER\tSTANDING\tSHARE\tROWS\tAGREEMENT\tWHY")
	for _, p := range r.GetCohort() {
		why := p.GetWhy()
		if why == "" {
			why = p.GetRefusal()
		}
		fmt.Fprintf(w, "  %s\t%s\t%.4f\t%d\t%s\t%s\n", p.GetPartner(), p.GetStanding(), p.GetShare(), p.GetRows(), galley.Digest(p.GetAgreement()).Short(), dash(why))
	}
	// The writer writes to memory or a terminal.
	_ = w.Flush()
	if metrics := metricsLine(r.GetMetrics()); metrics != "" {
		fmt.Fprintf(a.out, "  %-8s %s\n", "metrics", metrics)
	}
	if r.GetAggregate() != "" {
		fmt.Fprintf(a.out, "  %-8s %s\n", "weights", r.GetAggregate())
	}
	if r.GetFailure() != "" {
		fmt.Fprintf(a.out, "  failed: %s\n", r.GetFailure())
	}
	if r.GetCoordinatorSawSingleUpdates() {
		fmt.Fprintln(a.out, "  the coordinator saw each partner's update")
	}
}

func (a *app) federationAgreementCommand() *cobra.Command {
	return &cobra.Command{
		Use: "agreement DIGEST", Short: "Print the agreement that updates were signed under",
		Example: "  galley federation agreement sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				r, err := c.federations.GetAgreement(cmd.Context(), &controlpb.AgreementRequest{Digest: args[0]})
				if err != nil {
					return err
				}
				if a.json {
					a.printJSON(map[string]any{
						"digest": r.GetDigest(), "partner": r.GetPartner(), "federation": r.GetFederation(), "file": r.GetFile(), "joined": r.GetJoined().AsTime(),
					})
					return nil
				}
				fmt.Fprint(a.out, r.GetFile())
				return nil
			})
		},
	}
}

// accepted is how many updates count in a round.
func accepted(r *controlpb.Round) int {
	n := 0
	for _, p := range r.GetCohort() {
		if p.GetStanding() == string(federation.Accepted) {
			n++
		}
	}
	return n
}

func roundTook(r *controlpb.Round) string {
	if r.GetEnded() == nil {
		return "-"
	}
	return r.GetEnded().AsTime().Sub(r.GetOpened().AsTime()).Round(time.Second).String()
}

func metricsLine(metrics map[string]float64) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		all = append(all, fmt.Sprintf("%s %.4g", name, metrics[name]))
	}
	return strings.Join(all, ", ")
}

package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "galley/api/control/v1"
)

func (a *app) abCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "ab", Short: "Compare two versions of a model on live traffic",
		Long: `Compare two versions of a model on live traffic. An experiment splits the
requests that name no version between a control and a treatment, by their
request key. Applications send what became of the answers with galley feedback.
The verdict may be looked at whenever one likes.`,
		Example: "  galley ab start headline-test --control news-topic@1 --treatment news-topic@2 --split 90/10 --metric accuracy\n" +
			"  galley ab show headline-test\n  galley ab decide headline-test",
	}
	c.AddCommand(a.abStartCommand(), a.abListCommand(), a.abShowCommand(), a.abSplitCommand(), a.abStopCommand(), a.abDecideCommand())
	return c
}

func (a *app) abStartCommand() *cobra.Command {
	request := &controlpb.StartExperimentRequest{}
	var window, every time.Duration
	c := &cobra.Command{
		Use: "start NAME", Short: "Begin to split a model's traffic",
		Long: `Begin to split the traffic of a model that names no version. The request key
(parameter request_key, or the request's id) decides about the arm, the same for
good; requests without one are split by chance.

Metrics are the mean of outcomes from 0 to 1. More is better of accuracy,
acceptance, click, conversion, engagement, rating and success; less is better of
complaint, correction, error and rejection.

With --shadow, the control answers all requests, and the treatment is asked
beside it when the machine is idle. Nothing of it reaches a caller; ab show says
how often both give the same label, and the treatment's errors.

With --canary, the treatment's share goes up by itself, while it keeps its
guardrails.

A guardrail that the treatment breaks ends the experiment, and all traffic goes
to the control. Without --guardrail these are error_rate=0.1 and empty=0.1.`,
		Example: "  galley ab start headline-test --control news-topic@1 --treatment news-topic@2 --split 90/10 --metric accuracy\n" +
			"  galley ab start careful --control news-topic:prod --treatment news-topic@5 --canary 1,5,25,50 --every 30m --metric complaint\n" +
			"  galley ab start rehearsal --control news-topic:prod --treatment news-topic@5 --shadow 100\n" +
			"  galley ab start small-model --control news-topic:prod --treatment news-topic@5 --split 50/50 --metric click --unit key --guardrail error_rate=0.02 --guardrail p99=50ms",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Experiment = args[0]
			if request.Unguarded && len(request.Guardrails) > 0 {
				return usagef("ab start: --guardrail and --no-guardrails exclude each other")
			}
			if request.Shadow != 0 && (request.Canary != "" || request.Split != "" || request.Metric != "") {
				return usagef("ab start: a shadow has neither --split nor --canary nor --metric")
			}
			if request.Shadow == 0 && (request.Metric == "" || request.Budget != 0) {
				return usagef("ab start: give --metric, or --shadow, of which --budget is")
			}
			if request.Canary != "" && cmd.Flags().Changed("split") {
				return usagef("ab start: --split and --canary exclude each other")
			}
			if request.Canary == "" && every != 0 {
				return usagef("ab start: --every needs --canary")
			}
			if request.Canary == "" && request.Split == "" && request.Shadow == 0 {
				request.Split = "50/50"
			}
			if every != 0 {
				request.Every = durationpb.New(every)
			}
			if window != 0 {
				request.Window = durationpb.New(window)
			}
			return a.experiment(cmd.Context(), func(c *client) (*controlpb.Experiment, error) {
				return c.experiments.StartExperiment(cmd.Context(), request)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&request.Control, "control", "", "version that traffic goes to so far")
	f.StringVar(&request.Treatment, "treatment", "", "version that is tried")
	f.StringVar(&request.Split, "split", "", "percents of control and treatment; 50/50 if not given")
	f.StringVar(&request.Canary, "canary", "", "percents of the treatment that it goes up by itself: 1,5,25,50")
	f.DurationVar(&every, "every", 0, "at the least, between the steps of --canary; 10m if not given")
	f.Float64Var(&request.Shadow, "shadow", 0, "percentage of requests that the treatment is asked beside the control, whose answers are sent")
	f.Float64Var(&request.Budget, "budget", 0, "of --shadow: the share of the machine that it may take; 0.5 if not given")
	f.StringVar(&request.Metric, "metric", "", "what outcomes are of")
	f.StringVar(&request.Unit, "unit", "outcome", "what counts once: outcome, or key for the first outcome of each request key")
	f.StringArrayVar(&request.Guardrails, "guardrail", nil, "error_rate=0.02, empty=0.1 or p99=50ms; may be repeated")
	f.BoolVar(&request.Unguarded, "no-guardrails", false, "let nothing end the experiment by itself")
	f.DurationVar(&window, "window", 0, "that guardrails look back; 10s if not given")
	f.Int32Var(&request.MinimumRequests, "min-requests", 0, "of the treatment in the window, for guardrails to judge; 50 if not given")
	for _, name := range []string{"control", "treatment"} {
		// It fails for a flag that is not there.
		_ = c.MarkFlagRequired(name)
	}
	return c
}

func (a *app) abListCommand() *cobra.Command {
	request := &controlpb.ListExperimentsRequest{}
	c := &cobra.Command{
		Use: "list", Short: "List experiments, the newest first", Example: "  galley ab list",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				r, err := c.experiments.ListExperiments(cmd.Context(), request)
				if err != nil {
					return err
				}
				if a.json {
					all := []experimentJSON{}
					for _, e := range r.GetExperiments() {
						all = append(all, experimentOf(e))
					}
					a.printJSON(map[string]any{"experiments": all})
					return nil
				}
				w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "EXPERIMENT\tSTATE\tCONTROL\tTREATMENT\tSPLIT\tMETRIC\tOUTCOMES\tVERDICT\tSTARTED")
				for _, e := range r.GetExperiments() {
					control, treatment := armsOf(e)
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", e.GetExperiment(), e.GetState(), control.GetRef(), treatment.GetRef(),
						sharesOf(e), e.GetMetric(), control.GetN()+treatment.GetN(), verdictOf(e), e.GetStarted().AsTime().Local().Format(time.DateTime))
				}
				return w.Flush()
			})
		},
	}
	c.Flags().Int32Var(&request.Limit, "limit", 0, "the newest; 100 if not given, at most 1000")
	return c
}

func (a *app) abShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show each arm's figures, and the verdict",
		Long: `Show each arm's figures, and the verdict. The intervals and the verdict are
valid however often and whenever they are looked at: a verdict is false, or an
interval ever misses, in at most one of twenty experiments.`,
		Example: "  galley ab show headline-test\n  galley ab show headline-test -o json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.experiment(cmd.Context(), func(c *client) (*controlpb.Experiment, error) {
				return c.experiments.GetExperiment(cmd.Context(), &controlpb.ExperimentRequest{Experiment: args[0]})
			})
		},
	}
}

func (a *app) abSplitCommand() *cobra.Command {
	return &cobra.Command{
		Use: "split NAME SHARES", Short: "Change the shares of an experiment that runs",
		Long: `Change the shares of an experiment that runs. As few request keys as possible
change their arm: those that the arm that grows gets, and no others.`,
		Example: "  galley ab split headline-test 50/50",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.experiment(cmd.Context(), func(c *client) (*controlpb.Experiment, error) {
				return c.experiments.SplitExperiment(cmd.Context(), &controlpb.SplitExperimentRequest{Experiment: args[0], Split: args[1]})
			})
		},
	}
}

func (a *app) abStopCommand() *cobra.Command {
	request := &controlpb.StopExperimentRequest{}
	c := &cobra.Command{
		Use: "stop NAME", Short: "End an experiment without a winner",
		Long: `End an experiment without a winner. Traffic follows the alias prod again. The
outcomes of its predictions that come later are still counted. Of an experiment
that was rolled back, or whose control won, it ends the hold that keeps traffic on
the control.`,
		Example: "  galley ab stop headline-test --reason 'the front page is being rebuilt'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Experiment = args[0]
			return a.experiment(cmd.Context(), func(c *client) (*controlpb.Experiment, error) {
				return c.experiments.StopExperiment(cmd.Context(), request)
			})
		},
	}
	c.Flags().StringVar(&request.Reason, "reason", "", "why, for the record")
	return c
}

func (a *app) abDecideCommand() *cobra.Command {
	request := &controlpb.DecideExperimentRequest{}
	c := &cobra.Command{
		Use: "decide NAME", Short: "End an experiment with its winner",
		Long: `End an experiment with its winner. If that is the treatment, the alias prod
points at it from then on, without another gate: the figures of the experiment
are the reason that is recorded. If it is the control, all traffic goes there
until prod moves.

It is refused while nothing is decided, or while outcomes of one arm are
missing. --force decides all the same, for --winner; the reason is recorded.`,
		Example: "  galley ab decide headline-test\n  galley ab decide headline-test --force --winner control --reason 'the treatment costs too much'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if request.Force && request.Reason == "" {
				return usagef("ab decide: --force needs --reason")
			}
			if request.Winner != "" && !request.Force {
				return usagef("ab decide: --winner needs --force")
			}
			request.Experiment = args[0]
			return a.experiment(cmd.Context(), func(c *client) (*controlpb.Experiment, error) {
				return c.experiments.DecideExperiment(cmd.Context(), request)
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&request.Force, "force", false, "decide against the figures, or before they say anything")
	f.StringVar(&request.Winner, "winner", "", "with --force: control or treatment; treatment if not given")
	f.StringVar(&request.Reason, "reason", "", "why, for the record")
	return c
}

// experiment asks for an experiment and prints it.
func (a *app) experiment(ctx context.Context, ask func(*client) (*controlpb.Experiment, error)) error {
	return a.with(ctx, func(c *client) error {
		e, err := ask(c)
		if err != nil {
			return err
		}
		a.printExperiment(e)
		return nil
	})
}

type experimentJSON struct {
	Experiment  string              `json:"experiment"`
	Model       string              `json:"model"`
	State       string              `json:"state"`
	Metric      string              `json:"metric"`
	Unit        string              `json:"unit"`
	Arms        []experimentArmJSON `json:"arms"`
	Verdict     string              `json:"verdict"`
	Difference  []float64           `json:"difference"`
	SampleRatio sampleRatioJSON     `json:"sample_ratio"`
	Warnings    []string            `json:"warnings"`
	Traffic     string              `json:"traffic"`
	Guardrails  []string            `json:"guardrails"`
	Canary      []float64           `json:"canary,omitempty"`
	Next        *time.Time          `json:"next,omitempty"`
	Shadow      float64             `json:"shadow,omitempty"`
	Budget      float64             `json:"budget,omitempty"`
	Breach      *experimentBreach   `json:"breach,omitempty"`
	Winner      string              `json:"winner,omitempty"`
	Forced      bool                `json:"forced,omitempty"`
	Reason      string              `json:"reason,omitempty"`
	By          string              `json:"by"`
	Started     time.Time           `json:"started"`
	Ended       *time.Time          `json:"ended,omitempty"`
}

type experimentArmJSON struct {
	Arm      string    `json:"arm"`
	Ref      string    `json:"ref"`
	Share    float64   `json:"share"`
	N        int64     `json:"n"`
	Metric   *float64  `json:"metric"`
	Interval []float64 `json:"interval"`
	Requests int64     `json:"requests"`
	Errors   int64     `json:"errors"`
	Empty    int64     `json:"empty"`
	Outcomes int64     `json:"outcomes"`
	Keys     int64     `json:"keys"`
}

type sampleRatioJSON struct {
	P        float64 `json:"p"`
	Mismatch bool    `json:"mismatch"`
}

type experimentBreach struct {
	Guardrail string    `json:"guardrail"`
	Value     float64   `json:"value"`
	At        time.Time `json:"at"`
}

func experimentOf(e *controlpb.Experiment) experimentJSON {
	out := experimentJSON{
		Experiment: e.GetExperiment(), Model: e.GetModel(), State: e.GetState(), Metric: e.GetMetric(), Unit: e.GetUnit(), Arms: []experimentArmJSON{},
		Verdict: e.GetVerdict(), Difference: e.GetDifference(), SampleRatio: sampleRatioJSON{e.GetSampleRatioP(), e.GetSampleRatioMismatch()},
		Warnings: append([]string{}, e.GetWarnings()...), Traffic: e.GetTraffic(), Guardrails: append([]string{}, e.GetGuardrails()...),
		Winner: e.GetWinner(), Forced: e.GetForced(), Reason: e.GetReason(), By: e.GetBy(), Started: e.GetStarted().AsTime(),
	}
	for _, arm := range e.GetArms() {
		out.Arms = append(out.Arms, experimentArmJSON{
			Arm: arm.GetArm(), Ref: arm.GetRef(), Share: arm.GetShare(), N: arm.GetN(), Metric: arm.Metric, Interval: arm.GetInterval(),
			Requests: arm.GetRequests(), Errors: arm.GetErrors(), Empty: arm.GetEmpty(), Outcomes: arm.GetOutcomes(), Keys: arm.GetKeys(),
		})
	}
	if b := e.GetBreach(); b != nil {
		out.Breach = &experimentBreach{b.GetGuardrail(), b.GetValue(), b.GetAt().AsTime()}
	}
	out.Canary, out.Shadow, out.Budget = e.GetCanary(), e.GetShadow(), e.GetBudget()
	if e.GetNext() != nil {
		at := e.GetNext().AsTime()
		out.Next = &at
	}
	if e.GetEnded() != nil {
		at := e.GetEnded().AsTime()
		out.Ended = &at
	}
	return out
}

// armsOf are the two arms of an experiment.
func armsOf(e *controlpb.Experiment) (control, treatment *controlpb.ExperimentArm) {
	for _, arm := range e.GetArms() {
		switch arm.GetArm() {
		case "control":
			control = arm
		case "treatment":
			treatment = arm
		}
	}
	return control, treatment
}

func sharesOf(e *controlpb.Experiment) string {
	control, treatment := armsOf(e)
	return fmt.Sprintf("%.4g/%.4g", 100*control.GetShare(), 100*treatment.GetShare())
}

// verdictOf is the winner, or the verdict so far.
func verdictOf(e *controlpb.Experiment) string {
	if e.GetWinner() != "" {
		return e.GetWinner()
	}
	return e.GetVerdict()
}

func (a *app) printExperiment(e *controlpb.Experiment) {
	if a.json {
		a.printJSON(experimentOf(e))
		return
	}
	fmt.Fprintf(a.out, "%s  %s  %s of %s, per %s\n", e.GetExperiment(), e.GetState(), e.GetMetric(), e.GetModel(), e.GetUnit())
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  ARM\tVERSION\tSHARE\tREQUESTS\tERRORS\tEMPTY\tN\tRATE\tINTERVAL")
	for _, arm := range e.GetArms() {
		rate, interval := "-", "-"
		if arm.Metric != nil {
			rate, interval = fmt.Sprintf("%.4f", arm.GetMetric()), intervalOf(arm.GetInterval())
		}
		fmt.Fprintf(w, "  %s\t%s\t%.4g %%\t%d\t%d\t%d\t%d\t%s\t%s\n", arm.GetArm(), arm.GetRef(), 100*arm.GetShare(),
			arm.GetRequests(), arm.GetErrors(), arm.GetEmpty(), arm.GetN(), rate, interval)
	}
	// The writer writes to memory or a terminal.
	_ = w.Flush()
	switch {
	case e.GetWinner() != "" && e.GetForced():
		fmt.Fprintf(a.out, "decided by force: %s (%s)\n", e.GetWinner(), e.GetReason())
	case e.GetWinner() != "":
		fmt.Fprintf(a.out, "decided: %s\n", e.GetWinner())
	}
	fmt.Fprintf(a.out, "verdict: %s; difference %s, at all times with 95 %%\n", e.GetVerdict(), intervalOf(e.GetDifference()))
	if b := e.GetBreach(); b != nil {
		fmt.Fprintf(a.out, "rolled back: %s, and the treatment had %.4g\n", b.GetGuardrail(), b.GetValue())
	}
	fmt.Fprintf(a.out, "traffic goes to %s; guardrails: %s\n", e.GetTraffic(), strings.Join(orNone(e.GetGuardrails()), ", "))
	if e.GetShadow() > 0 {
		fmt.Fprintf(a.out, "the treatment is asked %.4g %% of the requests, and may take %.4g %% of the machine\n", 100*e.GetShadow(), 100*e.GetBudget())
	}
	if e.GetNext() != nil {
		fmt.Fprintf(a.out, "the treatment may get more from %s on\n", e.GetNext().AsTime().Local().Format(time.DateTime))
	}
	for _, warning := range e.GetWarnings() {
		fmt.Fprintf(a.out, "warning: %s\n", warning)
	}
}

func intervalOf(ends []float64) string {
	if len(ends) != 2 {
		return "-"
	}
	return fmt.Sprintf("[%.4f, %.4f]", ends[0], ends[1])
}

func orNone(names []string) []string {
	if len(names) == 0 {
		return []string{"none"}
	}
	return names
}

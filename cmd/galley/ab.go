package main

import (
	"context"
	"fmt"
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
interval ever misses, in at most one of twenty experiments. An arm's interval is a
confidence sequence (Howard, Ramdas, McAuliffe and Sekhon 2021), the verdict a
mixture sequential probability ratio test (Johari, Koomen, Pekelis and Walsh 2022).`,
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

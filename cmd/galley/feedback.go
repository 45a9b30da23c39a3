package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"

	newsroompb "galley/api/newsroom/v1"
)

func (a *app) feedbackCommand() *cobra.Command {
	var outcome string
	c := &cobra.Command{
		Use: "feedback PREDICTION_ID", Short: "Say what became of a prediction",
		Long: `Say what became of a prediction: true or false, a number from 0 to 1, or, for
the metric accuracy, the right label. The last outcome of a prediction counts,
and counts once, however late and however often it is sent.`,
		Example: "  galley feedback AQAAAAcCAQAAAAMZ… --outcome true\n  galley feedback AQAAAAcCAQAAAAMZ… --outcome Sports",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				r, err := c.newsroom.Feedback(cmd.Context(), &newsroompb.FeedbackRequest{PredictionId: args[0], Outcome: structpb.NewStringValue(outcome)})
				if err != nil {
					return err
				}
				if a.json {
					a.printJSON(map[string]string{
						"prediction_id": r.GetPredictionId(), "experiment": r.GetExperiment(), "arm": r.GetArm(), "state": r.GetState(),
					})
					return nil
				}
				where := "outside of experiments"
				if r.GetExperiment() != "" {
					where = r.GetArm() + " of " + r.GetExperiment()
				}
				fmt.Fprintf(a.out, "%s  %s\n", r.GetState(), where)
				return nil
			})
		},
	}
	c.Flags().StringVar(&outcome, "outcome", "", "what became of it")
	// It fails for a flag that is not there.
	_ = c.MarkFlagRequired("outcome")
	return c
}

package control

import (
	"context"
	"errors"
	"time"

	"galley"
	"galley/experiment"
)

// How long outcomes are taken for, and rows are kept that tell a repeated one
// from a new one. The difference is for clocks that are set.
const (
	outcomesTaken = 90 * 24 * time.Hour // after the prediction
	outcomesKept  = outcomesTaken + 24*time.Hour
)

// inTime refuses outcomes of predictions whose rows may be gone: they would
// count again.
func inTime(p experiment.Prediction, now time.Time) error {
	if now.Sub(p.At) <= outcomesTaken {
		return nil
	}
	return galley.Errorf(galley.FailedPrecondition, "prediction", "was made %s, more than %d days ago: its outcome is not taken any more",
		p.At.UTC().Format(time.DateOnly), int(outcomesTaken.Hours()/24)).
		WithRemedy("send outcomes within %d days; nothing is wrong with later predictions", int(outcomesTaken.Hours()/24))
}

// forgetOutcomes removes the rows of outcomes to which nothing can be added any
// more.
func (c *Control) forgetOutcomes(ctx context.Context) {
	n, err := c.store.ForgetOutcomes(ctx, c.now().Add(-outcomesKept))
	switch {
	case err != nil && !errors.Is(err, context.Canceled):
		c.log.Error("old outcomes cannot be removed; it is tried again", "error", err)
	case n > 0:
		c.log.Info("old outcomes were removed; totals of experiments stay", "outcomes", n)
	}
}

package quantize

import (
	"context"

	"galley"
)

// Budgeted finds how many of the dearest sites have to stay float for the
// drop to be at most most points. costs has the dearest first; drop measures
// the form that leaves some sites. It returns what to leave.
//
// The number is doubled until the drop is met, then halved between the last
// two: fewer measurements than sites, at the price that a drop which rises
// again with fewer sites is not seen.
func Budgeted(ctx context.Context, costs []Cost, most float64, drop func(ctx context.Context, leave map[string]bool) (float64, error)) (map[string]bool, error) {
	leave := func(n int) map[string]bool {
		out := make(map[string]bool, n)
		for _, c := range costs[:n] {
			out[c.Site.Name] = true
		}
		return out
	}
	meets := func(n int) (bool, error) {
		d, err := drop(ctx, leave(n))
		return err == nil && d <= most, err
	}
	failed, met := 0, 0
	for met = 1; ; met *= 2 {
		met = min(met, len(costs)-1)
		if met <= failed {
			return nil, overBudget(costs, most)
		}
		ok, err := meets(met)
		if err != nil {
			return nil, err
		}
		if ok {
			break
		}
		failed = met
	}
	for met-failed > 1 {
		n := (failed + met) / 2
		ok, err := meets(n)
		if err != nil {
			return nil, err
		}
		if ok {
			met = n
		} else {
			failed = n
		}
	}
	return leave(met), nil
}

func overBudget(costs []Cost, most float64) error {
	last := "nothing"
	if len(costs) > 0 {
		last = costs[len(costs)-1].Site.Name
	}
	return galley.Errorf(galley.FailedPrecondition, "max_drop", "with %s alone quantised, accuracy drops by more than %g points", galley.Clip(last, 80), most).
		WithRemedy("allow a larger max_drop, or choose a finer method: static with more calibration rows, dynamic, or float16")
}

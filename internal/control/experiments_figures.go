package control

import (
	"context"

	"galley/experiment"
	"galley/internal/store"
)

// ExperimentFigures is an experiment with what its shadow left out.
type ExperimentFigures struct {
	store.ExperimentRecord
	Dropped [len(experiment.Drops)]int64 // requests, by reason, since the server began
}

// LatestExperiments returns the last experiment of each model, the newest first
// and up to limit, for metrics: nothing is judged. What was counted in the last
// second may be missing.
func (c *Control) LatestExperiments(ctx context.Context, limit int) ([]ExperimentFigures, error) {
	records, err := c.store.LatestExperiments(ctx, limit)
	if err != nil {
		return nil, err
	}
	out := make([]ExperimentFigures, len(records))
	c.routes.mu.Lock()
	defer c.routes.mu.Unlock()
	for i, r := range records {
		out[i].ExperimentRecord = r
		if live := c.routes.live[r.Model]; live != nil && live.Name == r.Name && live.Live() {
			out[i].Dropped = live.Meters[experiment.Treatment].Dropped()
		}
	}
	return out, nil
}

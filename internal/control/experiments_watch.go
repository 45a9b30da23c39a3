package control

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"galley"
	"galley/experiment"
	"galley/internal/store"
	"galley/registry"
)

// How often guardrails are looked at, and counts are stored.
const (
	guardTime = 100 * time.Millisecond
	countTime = time.Second
)

// routes are where the experiments of a home send requests.
type routes struct {
	turns sync.Mutex // of those who read where requests go and then set it

	mu      sync.Mutex
	live    map[string]*experiment.Route    // by model
	broken  map[string]*experiment.Breached // by experiment: what is not stored yet
	kept    map[string]time.Time            // canaries that may go up, by experiment: since when
	passing []store.ExperimentCounts        // of routes that were replaced, not stored yet
}

// reroute has a model's requests go where its experiments say, as they are
// stored now.
func (c *Control) reroute(ctx context.Context, model string) error {
	c.routes.turns.Lock()
	defer c.routes.turns.Unlock()
	routing, err := c.store.Routing(ctx, model)
	if err != nil {
		return err
	}
	// Who looks at guardrails never waits for the store.
	c.routes.mu.Lock()
	defer c.routes.mu.Unlock()
	if len(routing) == 0 {
		c.setRoute(model, nil)
		return nil
	}
	e := routing[0]
	if c.routes.broken[e.Name] != nil {
		return nil // it is over, whatever is stored
	}
	c.setRoute(model, experiment.NewRoute(e, c.routes.live[model]))
	return nil
}

// setRoute takes what the former route counted, and sets another.
func (c *Control) setRoute(model string, r *experiment.Route) {
	former := c.routes.live[model]
	if former != nil && former.Live() {
		c.routes.passing = append(c.routes.passing, countsOf(former)...)
	}
	if r == nil {
		delete(c.routes.live, model)
	} else {
		c.routes.live[model] = r
	}
	if c.traffic.Route != nil && (former != nil || r != nil) {
		c.traffic.Route(model, r)
	}
}

// countsOf takes what a route has counted.
func countsOf(r *experiment.Route) []store.ExperimentCounts {
	var counts []store.ExperimentCounts
	for _, arm := range experiment.Arms {
		if n := r.Meters[arm].Take(); n != (experiment.Counts{}) {
			counts = append(counts, store.ExperimentCounts{Experiment: r.Experiment, Stage: r.Number, Arm: arm, Counts: n})
		}
	}
	return counts
}

// countAnswers stores what was counted since the last time.
func (c *Control) countAnswers(ctx context.Context) error {
	c.routes.mu.Lock()
	counts := c.routes.passing
	for _, r := range c.routes.live {
		if r.Live() {
			counts = append(counts, countsOf(r)...)
		}
	}
	c.routes.passing = nil
	c.routes.mu.Unlock()
	if len(counts) == 0 {
		return nil
	}
	err := c.store.CountAnswers(ctx, counts)
	if err != nil {
		c.routes.mu.Lock()
		defer c.routes.mu.Unlock()
		c.routes.passing = append(counts, c.routes.passing...)
	}
	return err
}

// openExperiments makes ready to sign predictions, and has requests go where
// the experiments of the home say that was opened.
func (c *Control) openExperiments(ctx context.Context) error {
	key, err := c.store.PredictionKey(ctx)
	if err != nil {
		return err
	}
	c.outcomes = outcomes{signer: experiment.NewSigner(key), targets: map[uint32]*outcomeTarget{}}
	c.routes = routes{live: map[string]*experiment.Route{}, broken: map[string]*experiment.Breached{}, kept: map[string]time.Time{}}
	routing, err := c.store.Routing(ctx, "")
	if err != nil {
		return err
	}
	for _, e := range routing {
		if err := c.reroute(ctx, e.Model); err != nil {
			return err
		}
	}
	return nil
}

// watchExperiments looks at guardrails, and stores what becomes of experiments,
// until ctx ends. Who looks never waits for who stores.
func (c *Control) watchExperiments(ctx context.Context) {
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() {
		guard := time.NewTicker(guardTime)
		defer guard.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-guard.C:
				c.guard(c.now())
			}
		}
	})
	store, count := time.NewTicker(guardTime), time.NewTicker(countTime)
	defer store.Stop()
	defer count.Stop()
	for {
		select {
		case <-ctx.Done():
			c.countedAtLast(ctx)
			return
		case <-store.C:
			c.rollBackBroken(ctx)
			c.rampUp(ctx)
		case <-count.C:
			if err := c.countAnswers(ctx); err != nil {
				c.log.Error("answers of experiments are not counted; it is tried again", "error", err)
			}
		}
	}
}

// countedAtLast stores what was counted when the server goes away.
func (c *Control) countedAtLast(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := c.countAnswers(ctx); err != nil {
		c.log.Error("the last answers of experiments are not counted", "error", err)
	}
}

// guard takes the requests from treatments that break a guardrail: they go to
// control at once.
func (c *Control) guard(now time.Time) {
	c.routes.mu.Lock()
	defer c.routes.mu.Unlock()
	for model, r := range c.routes.live {
		if !r.Live() {
			continue
		}
		figures := r.Figures(now)
		treatment := figures[experiment.Treatment]
		broken, is := r.Guards.Judge(figures)
		switch {
		case is:
			c.routes.broken[r.Name] = &experiment.Breached{Breach: experiment.Breach{
				Guard: broken, Value: treatment.Value(broken.Measure), Figures: figures, At: now,
			}}
			c.setRoute(model, r.Held())
		case !r.Due.IsZero() && !now.Before(r.Due) && treatment.Requests >= int64(r.Guards.MinimumRequests):
			c.routes.kept[r.Name] = now
		}
	}
}

// recentRequests counts the requests of an experiment's treatment by which its
// guardrails judge; 0 if it does not run.
func (c *Control) recentRequests(e experiment.Experiment) int64 {
	c.routes.mu.Lock()
	defer c.routes.mu.Unlock()
	r := c.routes.live[e.Model]
	if r == nil || r.Name != e.Name || !r.Live() {
		return 0
	}
	return r.Figures(c.now())[experiment.Treatment].Requests
}

// rollBackBroken stores the ends of experiments whose guardrails are broken, and
// tries again later what cannot be stored.
func (c *Control) rollBackBroken(ctx context.Context) {
	c.routes.mu.Lock()
	broken := maps.Clone(c.routes.broken)
	c.routes.mu.Unlock()
	for name, breached := range broken {
		if err := c.rollBack(ctx, name, *breached); err != nil && ctx.Err() == nil {
			c.log.Error("the end of an experiment cannot be stored; it is tried again", "experiment", name, "error", err)
		}
	}
}

// rampUp gives the treatments of canaries more that kept their guardrails.
func (c *Control) rampUp(ctx context.Context) {
	c.routes.mu.Lock()
	kept := c.routes.kept
	c.routes.kept = map[string]time.Time{}
	c.routes.mu.Unlock()
	for name, at := range kept {
		_, err := c.stepExperiment(ctx, name, galley.System, "experiment.ramp", "", func(store.ExperimentRecord) experiment.Event { return experiment.Ramped{At: at} })
		if err != nil && ctx.Err() == nil {
			c.log.Error("a canary cannot go up; it is tried again", "experiment", name, "error", err)
		}
	}
}

// rollBack stores the end of an experiment by a guardrail.
func (c *Control) rollBack(ctx context.Context, name string, breached experiment.Breached) error {
	e, _, err := c.store.ChangeExperiment(ctx, name, func(r store.ExperimentRecord) (store.ExperimentChange, error) {
		breached.Prod = r.Prod.Generation
		after, effects, err := experiment.Step(r.Experiment, breached)
		change := store.ExperimentChange{Experiment: after}
		if err == nil && len(effects) > 0 {
			change.Commit = store.Commit{By: galley.System, At: breached.Breach.At, Action: "experiment.rollback", Detail: breachDetail(after)}
		}
		return change, err
	})
	if err != nil {
		return err
	}
	c.log.Warn("a guardrail ended an experiment", "experiment", name, "guardrail", breached.Breach.Guard.String(), "value", breached.Breach.Value)
	c.routes.mu.Lock()
	delete(c.routes.broken, name)
	c.routes.mu.Unlock()
	return c.reroute(ctx, e.Model)
}

// breachDetail writes the evidence of a guardrail for the audit log.
func breachDetail(e experiment.Experiment) string {
	b := e.Breach
	if b == nil {
		return ""
	}
	detail := fmt.Sprintf("guardrail %s: %s %.4g", b.Guard, e.Ref(experiment.Treatment), b.Value)
	for _, arm := range experiment.Arms {
		f := b.Figures[arm]
		detail += fmt.Sprintf("; %s %s in %s: %d requests, %d errors, %d empty, p99 %s",
			arm, e.Ref(arm), e.Guards.Window, f.Requests, f.Errors, f.Empty, f.P99.Round(time.Microsecond))
	}
	return detail + "; traffic goes to " + e.Ref(experiment.Control)
}

// movedProd ends the hold of a model whose alias prod has moved.
func (c *Control) movedProd(ctx context.Context, moved registry.Change) {
	if moved.Alias != registry.Prod {
		return
	}
	if err := c.reroute(ctx, moved.Model); err != nil {
		c.log.Error("traffic may not follow the alias", "model", moved.Model, "error", err)
	}
}

package control

import (
	"context"
	"math"
	"sync"
	"unicode/utf8"

	"galley"
	"galley/experiment"
	"galley/internal/store"
	"galley/internal/store/sqlite"
)

// Bounds of outcomes.
const (
	maxOutcomes    = 512   // of one transaction
	maxWaiting     = 10000 // outcomes that wait for one
	maxOutcomeText = 256   // bytes
)

// A Feedback is what recording an outcome did.
type Feedback struct {
	Experiment string // "" outside of experiments
	Arm        experiment.Arm
	State      store.OutcomeState
}

// Signer signs the ids of this home's predictions.
func (c *Control) Signer() *experiment.Signer { return c.outcomes.signer }

// Feedback attaches an outcome to a prediction. It is stored when Feedback
// returns. The last outcome of a prediction counts, and counts once.
func (c *Control) Feedback(ctx context.Context, id, outcome string) (Feedback, error) {
	p, err := c.outcomes.signer.Verify(id)
	if err != nil {
		return Feedback{}, err
	}
	if err := inTime(p, c.now()); err != nil {
		return Feedback{}, err
	}
	if outcome == "" || len(outcome) > maxOutcomeText || !utf8.ValidString(outcome) {
		return Feedback{}, galley.Errorf(galley.InvalidArgument, "outcome", "is empty, longer than %d bytes or not UTF-8", maxOutcomeText).
			WithRemedy("send what became of the prediction: true, false, a number from 0 to 1, or the right label")
	}
	o := store.Outcome{Prediction: p, Text: outcome, At: c.now()}
	var name string
	if p.Experiment != 0 {
		t, err := c.outcomes.target(ctx, c.store, p.Experiment)
		if err != nil {
			return Feedback{}, err
		}
		name = t.name
		value, err := t.value(p, outcome)
		if err != nil {
			return Feedback{}, err
		}
		o.Micros = int64(math.Round(value * store.Micros))
	}
	state, err := c.record(ctx, o)
	return Feedback{Experiment: name, Arm: p.Arm, State: state}, err
}

// outcomes are on their way into the store: those that come while a
// transaction is under way share the next one, so that what a disk's flush
// takes is not paid by each.
type outcomes struct {
	signer *experiment.Signer

	mu      sync.Mutex
	waiting []*waitingOutcome
	busy    bool
	targets map[uint32]*outcomeTarget // by experiment
}

type waitingOutcome struct {
	store.Outcome
	state store.OutcomeState
	err   error
	done  chan struct{}
}

// An outcomeTarget is what outcomes of an experiment are read with.
type outcomeTarget struct {
	name   string
	metric experiment.Metric
	labels [2][]string // of the arms' versions
}

func (t *outcomeTarget) value(p experiment.Prediction, outcome string) (float64, error) {
	labels, predicted := t.labels[p.Arm], ""
	if n := int(p.Label); n > 0 && n <= len(labels) {
		predicted = labels[n-1]
	}
	return t.metric.Value(outcome, predicted, labels)
}

// target finds what outcomes of an experiment are read with.
func (o *outcomes) target(ctx context.Context, s *sqlite.Store, id uint32) (*outcomeTarget, error) {
	o.mu.Lock()
	t := o.targets[id]
	o.mu.Unlock()
	if t != nil {
		return t, nil
	}
	name, err := s.ExperimentName(ctx, id)
	if galley.CodeOf(err) == galley.NotFound {
		// The home was restored from before the experiment.
		return nil, galley.Errorf(galley.NotFound, "prediction", "belongs to an experiment that is not here").
			WithRemedy("this home was restored from a backup that is older than the prediction")
	}
	if err != nil {
		return nil, err
	}
	r, err := s.Experiment(ctx, name)
	if err != nil {
		return nil, err
	}
	t = &outcomeTarget{name: name, metric: r.Metric}
	for _, arm := range experiment.Arms {
		v, err := s.Version(ctx, r.Model, r.Versions[arm])
		if err != nil && galley.CodeOf(err) != galley.NotFound { // deleted since
			return nil, err
		}
		t.labels[arm] = v.Labels
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.targets[id] = t
	return t, nil
}

// record stores an outcome with others that wait.
func (c *Control) record(ctx context.Context, o store.Outcome) (store.OutcomeState, error) {
	w := &waitingOutcome{Outcome: o, done: make(chan struct{})}
	c.outcomes.mu.Lock()
	if len(c.outcomes.waiting) >= maxWaiting {
		c.outcomes.mu.Unlock()
		return "", galley.Errorf(galley.ResourceExhausted, "outcome", "%d outcomes wait to be stored already", maxWaiting).
			WithRemedy("send it again later: it counts once, however often it is sent")
	}
	c.outcomes.waiting = append(c.outcomes.waiting, w)
	if !c.outcomes.busy {
		c.outcomes.busy = true
		go c.recordWaiting()
	}
	c.outcomes.mu.Unlock()
	select {
	case <-w.done:
		return w.state, w.err
	case <-ctx.Done():
		return "", ctx.Err() // it may be stored all the same
	}
}

// recordWaiting stores what waits, a transaction after the other.
func (c *Control) recordWaiting() {
	for {
		c.outcomes.mu.Lock()
		n := min(len(c.outcomes.waiting), maxOutcomes)
		if n == 0 {
			c.outcomes.busy = false
			c.outcomes.mu.Unlock()
			return
		}
		batch := c.outcomes.waiting[:n:n]
		c.outcomes.waiting = c.outcomes.waiting[n:]
		c.outcomes.mu.Unlock()
		rows := make([]store.Outcome, n)
		for i, w := range batch {
			rows[i] = w.Outcome
		}
		states, err := c.store.RecordOutcomes(c.life, rows)
		for i, w := range batch {
			if w.err = err; err == nil {
				w.state = states[i]
			}
			close(w.done)
		}
	}
}

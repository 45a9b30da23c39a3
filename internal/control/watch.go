package control

import (
	"context"
	"sync"

	"galley"
	"galley/internal/store"
	"galley/trainer"
)

// maxWatchers bounds the streams that follow jobs.
const maxWatchers = 1000

// A hub tells those who watch a job that it changed. A watcher that is slow
// sees fewer changes, never an old state for good.
type hub struct {
	mu       sync.Mutex
	watchers map[string]map[chan struct{}]bool
	count    int
}

func (h *hub) join(job string) (<-chan struct{}, func(), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count >= maxWatchers {
		return nil, nil, galley.Errorf(galley.ResourceExhausted, job, "%d streams follow jobs already", h.count).WithRemedy("try again later")
	}
	if h.watchers == nil {
		h.watchers = map[string]map[chan struct{}]bool{}
	}
	if h.watchers[job] == nil {
		h.watchers[job] = map[chan struct{}]bool{}
	}
	signal := make(chan struct{}, 1)
	h.watchers[job][signal] = true
	h.count++
	return signal, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.count--
		delete(h.watchers[job], signal)
		if len(h.watchers[job]) == 0 {
			delete(h.watchers, job)
		}
	}, nil
}

func (h *hub) tell(job string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for signal := range h.watchers[job] {
		select {
		case signal <- struct{}{}:
		default:
		}
	}
}

// Watch sends a job now and after its changes, until it is final or ctx ends.
func (c *Control) Watch(ctx context.Context, id string, send func(trainer.Job) error) error {
	signal, leave, err := c.changes.join(id)
	if err != nil {
		return err
	}
	defer leave()
	sent := int64(0)
	for {
		j, err := c.store.Job(ctx, id)
		if err != nil {
			return err
		}
		if j.Generation != sent {
			if err := send(j); err != nil {
				return err
			}
			sent = j.Generation
		}
		if j.Phase.Final() {
			return nil
		}
		select {
		case <-signal:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.draining:
			return galley.Errorf(galley.Unavailable, id, "the server is going away").WithRemedy("the job goes on when it is back")
		}
	}
}

// Logs sends the lines of a job's log after the numbered one; with follow also
// those to come, until the job is final.
func (c *Control) Logs(ctx context.Context, id string, after int64, follow bool, send func(trainer.Job, store.Line) error) error {
	signal, leave, err := c.changes.join(id)
	if err != nil {
		return err
	}
	defer leave()
	for {
		j, err := c.store.Job(ctx, id)
		if err != nil {
			return err
		}
		for {
			lines, err := c.store.Lines(ctx, id, after, store.MaxList)
			if err != nil {
				return err
			}
			for _, line := range lines {
				if err := send(j, line); err != nil {
					return err
				}
				after = line.Number
			}
			if len(lines) < store.MaxList {
				break
			}
		}
		// The job was read before its lines, so a final one has no more.
		if !follow || j.Phase.Final() {
			return nil
		}
		select {
		case <-signal:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.draining:
			return galley.Errorf(galley.Unavailable, id, "the server is going away").WithRemedy("the job goes on when it is back")
		}
	}
}

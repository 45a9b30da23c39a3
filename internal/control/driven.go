package control

import (
	"context"
	"sync"
)

// driven are the jobs that a goroutine of their own drives, each with its signal.
type driven struct {
	mu      sync.Mutex
	signals map[string]chan struct{}
}

// signal tells the goroutine that drives a job to look again. started says that
// there was none, and that the caller has to start it.
func (d *driven) signal(id string) (signal <-chan struct{}, started bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, driven := d.signals[id]
	if !driven {
		s = make(chan struct{}, 1)
		if d.signals == nil {
			d.signals = map[string]chan struct{}{}
		}
		d.signals[id] = s
	}
	select {
	case s <- struct{}{}:
	default:
	}
	return s, !driven
}

// nudge is signal for a job that may not be driven.
func (d *driven) nudge(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, driven := d.signals[id]; driven {
		select {
		case s <- struct{}{}:
		default:
		}
	}
}

// leave ends the driving of a job, unless it was signalled meanwhile.
func (d *driven) leave(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.signals[id]:
		return false
	default:
		delete(d.signals, id)
		return true
	}
}

func (d *driven) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.signals)
}

// drive has a goroutine drive a job, unless one does or the control is closing.
// Close waits for it.
func (c *Control) drive(d *driven, id string, work func(ctx context.Context, cancel context.CancelFunc, signal <-chan struct{})) {
	c.mu.Lock()
	closing := c.closing
	if !closing {
		c.running.Add(1)
	}
	c.mu.Unlock()
	if closing {
		return
	}
	signal, started := d.signal(id)
	if !started {
		c.running.Done()
		return
	}
	go func() {
		defer c.running.Done()
		ctx, cancel := context.WithCancel(c.life)
		defer cancel()
		work(ctx, cancel, signal)
	}()
}

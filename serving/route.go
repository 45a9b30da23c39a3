package serving

import (
	"context"
	"maps"
	"math"
	"strconv"
	"time"

	"galley"
	"galley/experiment"
	"galley/onnx"
	"galley/onnx/session"
	"galley/task"
)

// SetRoute has requests for a model that name no version go where an
// experiment sends them; nil lets them follow the alias again. What they go to
// is opened when the first comes, if it is not open.
func (t *Table) SetRoute(name string, r *experiment.Route) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.modelLocked(name)
	m.routed = nil
	// Requests read the routes without the lock.
	routes := map[string]*experiment.Route{}
	maps.Copy(routes, t.allRoutes())
	delete(routes, name)
	if r != nil {
		routes[name] = r
		m.routed = r.Versions[:]
	}
	t.routes.Store(&routes)
}

// Signature opens a version and returns what it takes and gives.
func (t *Table) Signature(ctx context.Context, name string, number int) (task.Signature, error) {
	l, err := t.Acquire(ctx, name, strconv.Itoa(number))
	if err != nil {
		return task.Signature{}, err
	}
	defer l.Release()
	return l.Servable.Signature, nil
}

func (t *Table) allRoutes() map[string]*experiment.Route {
	if routes := t.routes.Load(); routes != nil {
		return *routes
	}
	return nil
}

// AcquireFor is Acquire for a request to be answered, with the key that it
// has, if any: under an experiment the key decides about the version.
func (t *Table) AcquireFor(ctx context.Context, name, version, key string) (*Lease, error) {
	if err := experiment.CheckKey(key); err != nil {
		return nil, err
	}
	t.shadows.giveWay()
	r := t.allRoutes()[name]
	if version != "" || r == nil || !r.Live() {
		return t.Acquire(ctx, name, version)
	}
	a := r.Assign(key, experiment.Nonce())
	l, err := t.Acquire(ctx, name, strconv.Itoa(r.Versions[a.Arm]))
	if err != nil {
		if galley.CodeOf(err) != galley.Canceled {
			a.Observe(time.Now(), 0, true, false)
		}
		return nil, err
	}
	l.Assignment = a
	return l, nil
}

// Infer answers a request as Servable.Infer does, and counts what became of it
// for the experiment that the request is part of, unless its caller asked for
// what the version does not have, or went away.
func (l *Lease) Infer(ctx context.Context, inputs map[string]*session.Tensor) (outputs map[string]*session.Tensor, err error) {
	if l.Assignment.Route == nil || l.Servable.check(inputs) != nil {
		return l.Servable.Infer(ctx, inputs)
	}
	began := time.Now()
	err = errPanicked
	defer func() {
		if galley.CodeOf(err) != galley.Canceled {
			now := time.Now()
			l.Assignment.Observe(now, now.Sub(began), err != nil, err == nil && empty(inputs, outputs))
		}
	}()
	outputs, err = l.Servable.Infer(ctx, inputs)
	if err == nil && l.Assignment.Shadowed() {
		l.table.shadows.offer(l, inputs, outputs)
	}
	return outputs, err
}

// empty reports whether what was asked has no answer in it, or one of several
// rows has none: no elements, no text, or numbers that are none.
func empty(inputs, outputs map[string]*session.Tensor) bool {
	for _, t := range inputs {
		if t.Size() == 0 {
			return false // nothing was asked
		}
	}
	for _, t := range outputs {
		if t.Size() == 0 {
			return true
		}
		for _, s := range t.Strings() {
			if s == "" {
				return true
			}
		}
		if t.Type == onnx.Float {
			for _, x := range session.Data[float32](t) {
				if math.IsNaN(float64(x)) {
					return true
				}
			}
		}
	}
	return false
}

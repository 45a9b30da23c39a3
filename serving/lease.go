package serving

import (
	"context"
	"strconv"
	"sync"

	"galley"
	"galley/experiment"
	"galley/registry"
)

// A Lease is the right to use an open version until Release.
type Lease struct {
	*Servable
	// Assignment is the arm of the experiment that the request is part of; the
	// zero one of other requests.
	Assignment experiment.Assignment

	table   *Table
	opened  *opened
	release sync.Once
}

// Release gives the version back; the lease must not be used afterwards.
func (l *Lease) Release() {
	l.release.Do(func() {
		l.table.leave(l.opened)
	})
}

// Acquire returns the version of name that a request for version goes to:
// empty for traffic's, else a number or an alias. It opens the version if it
// is not open. Under an experiment, traffic's is the control; see AcquireFor.
func (t *Table) Acquire(ctx context.Context, name, version string) (*Lease, error) {
	if r := t.allRoutes()[name]; r != nil && version == "" {
		version = strconv.Itoa(r.Versions[experiment.Control])
	}
	if version == "" {
		if l := t.acquireTraffic(name); l != nil {
			return l, nil
		}
		if err := t.Follow(ctx, name); err != nil {
			return nil, err
		}
		if l := t.acquireTraffic(name); l != nil {
			return l, nil
		}
		return nil, galley.Errorf(galley.Unavailable, name, "the server is closing")
	}
	// A number that is open needs no look-up: versions do not change.
	if n, err := strconv.Atoi(version); err == nil {
		if l := t.acquireOpen(name, n); l != nil {
			return l, nil
		}
	}
	v, err := registry.ResolveTraffic(ctx, t.store, name, version)
	if err != nil {
		return nil, err
	}
	o, err := t.use(ctx, v)
	if err != nil {
		return nil, err
	}
	return t.lease(o), nil
}

func (t *Table) acquireTraffic(name string) *Lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, ok := t.models[name]
	if !ok || m.traffic == nil {
		return nil
	}
	m.traffic.users++
	return t.lease(m.traffic)
}

func (t *Table) acquireOpen(name string, number int) *Lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, ok := t.models[name]
	if !ok {
		return nil
	}
	o, ok := m.opened[number]
	if !ok || o.servable == nil {
		return nil
	}
	m.touch(number)
	o.users++
	return t.lease(o)
}

func (t *Table) lease(o *opened) *Lease { return &Lease{Servable: o.servable, table: t, opened: o} }

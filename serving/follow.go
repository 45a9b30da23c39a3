package serving

import (
	"context"
	"sync"

	"galley"
	"galley/registry"
)

// A follow lets those who point one model's traffic elsewhere take turns. They
// wait for no other model's.
type follow struct {
	turn  sync.Mutex
	users int
}

// Follow points traffic of name at the version that it goes to now, after a
// promotion, a rollback or a new version. The version is open when Follow
// returns; requests go to the former one until then.
func (t *Table) Follow(ctx context.Context, name string) error {
	// One at a time: of two that look up different versions, the one that
	// looked first must not point traffic back.
	defer t.turn(name)()
	v, err := registry.ResolveTraffic(ctx, t.store, name, "")
	if err != nil {
		return err
	}
	o, err := t.use(ctx, v)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if o.evicted { // deleted or closed meanwhile
		t.leaveLocked(o)
		return galley.Errorf(galley.Unavailable, v.Ref(), "was closed while it was opened")
	}
	m := t.models[name]
	if m.traffic != nil && m.traffic != o {
		m.former = m.traffic
	}
	m.traffic = o
	t.leaveLocked(o)
	t.evict(m)
	return nil
}

// turn waits until no one else points the traffic of name elsewhere; done lets
// the next one.
func (t *Table) turn(name string) (done func()) {
	t.mu.Lock()
	f, ok := t.follows[name]
	if !ok {
		f = &follow{}
		t.follows[name] = f
	}
	f.users++
	t.mu.Unlock()
	f.turn.Lock()
	return func() {
		f.turn.Unlock()
		t.mu.Lock()
		defer t.mu.Unlock()
		if f.users--; f.users == 0 {
			delete(t.follows, name)
		}
	}
}

// Refresh is Follow for a model whose traffic goes somewhere already. A version
// that is new may be what traffic goes to now; if nobody asks, nothing opens.
func (t *Table) Refresh(ctx context.Context, name string) error {
	t.mu.Lock()
	m, ok := t.models[name]
	asked := ok && m.traffic != nil
	t.mu.Unlock()
	if !asked {
		return nil
	}
	return t.Follow(ctx, name)
}

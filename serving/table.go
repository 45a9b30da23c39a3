package serving

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"galley"
	"galley/experiment"
	"galley/registry"
)

// An OpenFunc opens a version for requests.
type OpenFunc func(ctx context.Context, v registry.Version) (*Servable, error)

// A Table holds the open versions of all models. Its methods may be called by
// several goroutines at once.
type Table struct {
	// Freed, if not nil, is called whenever a version has been closed, to give
	// its memory back to the system. It is set before the first request.
	Freed func()

	store registry.Store
	open  OpenFunc

	routes  atomic.Pointer[map[string]*experiment.Route] // by model; see SetRoute
	shadows shadows

	mu     sync.Mutex
	models map[string]*model
	closed bool

	follows map[string]*follow // by the names whose traffic is being pointed elsewhere
	busy    int                // versions being opened or closed
	settled *sync.Cond         // busy is 0
}

// A model is the open versions of one model.
type model struct {
	traffic *opened         // what requests without a version go to; nil until first asked
	former  *opened         // what they went to before, if it is still open
	opened  map[int]*opened // by version number
	recent  []int           // numbers, the last asked for at the end
	routed  []int           // numbers that an experiment sends requests to

	recorders map[int]*recorder // of versions that were open, by number
}

// An opened version counts its users. ready is closed when loading ended.
type opened struct {
	servable *Servable
	err      error
	ready    chan struct{}
	users    int
	left     time.Time // when the last user did
	evicted  bool      // close when the last user leaves
}

// NewTable makes a table that looks versions up in store and opens them with
// open.
func NewTable(store registry.Store, open OpenFunc) *Table {
	t := &Table{store: store, open: open, models: map[string]*model{}, follows: map[string]*follow{}}
	t.shadows.table = t
	t.settled = sync.NewCond(&t.mu)
	return t
}

// Forget closes a version that was deleted.
func (t *Table) Forget(name string, number int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, ok := t.models[name]
	if !ok {
		return
	}
	delete(m.recorders, number)
	if o, ok := m.opened[number]; ok {
		t.drop(m, number, o)
	}
}

// Close closes all versions, each when its last request has been answered,
// and refuses new requests. It waits for versions that are being opened and
// closed, not for requests.
func (t *Table) Close() {
	t.shadows.close()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, m := range t.models {
		for n, o := range m.opened {
			t.drop(m, n, o)
		}
	}
	for t.busy > 0 {
		t.settled.Wait()
	}
}

func (t *Table) modelLocked(name string) *model {
	m, ok := t.models[name]
	if !ok {
		m = &model{opened: map[int]*opened{}, recorders: map[int]*recorder{}}
		t.models[name] = m
	}
	return m
}

// use opens v, or waits for who is opening it, and counts the caller as a
// user.
func (t *Table) use(ctx context.Context, v registry.Version) (*opened, error) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil, galley.Errorf(galley.Unavailable, v.Name, "the server is closing")
	}
	m := t.modelLocked(v.Name)
	o, ok := m.opened[v.Number]
	if !ok {
		o = &opened{ready: make(chan struct{})}
		m.opened[v.Number] = o
		// Whoever asked first may go away; others wait for the same version.
		t.busy++
		go t.load(context.WithoutCancel(ctx), m, v, o)
	}
	o.users++
	m.touch(v.Number)
	t.mu.Unlock()

	select {
	case <-o.ready:
	case <-ctx.Done():
		t.leave(o)
		return nil, ctx.Err()
	}
	if o.err != nil {
		t.leave(o)
		return nil, o.err
	}
	return o, nil
}

func (t *Table) leave(o *opened) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaveLocked(o)
}

func (t *Table) leaveLocked(o *opened) {
	if o.users--; o.users == 0 {
		o.left = time.Now()
		t.closeIfUnused(o)
	}
}

func (t *Table) load(ctx context.Context, m *model, v registry.Version, o *opened) {
	servable, err := t.open(ctx, v)
	t.mu.Lock()
	defer t.mu.Unlock()
	o.servable, o.err = servable, err
	if err == nil {
		if m.recorders[v.Number] == nil {
			m.recorders[v.Number] = newRecorder(v.Name, v.Number)
		}
		servable.recorder = m.recorders[v.Number]
	}
	o.left = time.Now()
	if err != nil && m.opened[v.Number] == o { // the next request tries again
		t.drop(m, v.Number, o)
	}
	close(o.ready)
	t.evict(m)
	t.closeIfUnused(o)
	t.done()
}

// done notes that a version has been opened or closed.
func (t *Table) done() {
	if t.busy--; t.busy == 0 {
		t.settled.Broadcast()
	}
}

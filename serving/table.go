package serving

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"galley"
	"galley/experiment"
	"galley/registry"
)

// warm is how many versions of a model stay open besides the one that traffic
// goes to: the one before it, and those that were asked for by number last.
const warm = 2

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

// A follow lets those who point one model's traffic elsewhere take turns. They
// wait for no other model's.
type follow struct {
	turn  sync.Mutex
	users int
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

func (t *Table) modelLocked(name string) *model {
	m, ok := t.models[name]
	if !ok {
		m = &model{opened: map[int]*opened{}, recorders: map[int]*recorder{}}
		t.models[name] = m
	}
	return m
}

func (t *Table) lease(o *opened) *Lease { return &Lease{Servable: o.servable, table: t, opened: o} }

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

// touch notes that a version was asked for.
func (m *model) touch(number int) {
	if i := slices.Index(m.recent, number); i >= 0 {
		m.recent = slices.Delete(m.recent, i, i+1)
	}
	m.recent = append(m.recent, number)
}

// evict drops the versions of a model that are not kept warm.
func (t *Table) evict(m *model) {
	kept := 0
	if m.former != nil && m.former != m.traffic {
		kept = 1
	}
	for _, n := range slices.Backward(slices.Clone(m.recent)) {
		o, ok := m.opened[n]
		if !ok || o == m.traffic || o == m.former || slices.Contains(m.routed, n) {
			continue
		}
		if kept++; kept > warm && o.servable != nil {
			t.drop(m, n, o)
		}
	}
}

// drop takes a version off the table; it closes when its last user leaves.
func (t *Table) drop(m *model, number int, o *opened) {
	delete(m.opened, number)
	if i := slices.Index(m.recent, number); i >= 0 {
		m.recent = slices.Delete(m.recent, i, i+1)
	}
	if m.traffic == o {
		m.traffic = nil
	}
	if m.former == o {
		m.former = nil
	}
	o.evicted = true
	t.closeIfUnused(o)
}

// closeIfUnused closes a dropped version that nobody uses, beside the requests
// of others: freeing a large model takes a while.
func (t *Table) closeIfUnused(o *opened) {
	if !o.evicted || o.users > 0 || o.servable == nil {
		return
	}
	s := o.servable
	o.servable = nil
	t.busy++
	go func() {
		s.close()
		if t.Freed != nil {
			t.Freed()
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.done()
	}()
}

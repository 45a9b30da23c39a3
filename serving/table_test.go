package serving

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"galley"
	"galley/onnx/session"
	"galley/registry"
	"galley/task"
)

// models is a registry.Store with the methods that a Table calls.
type models struct {
	registry.Store
	mu sync.Mutex
	m  registry.Model
}

func (s *models) Model(_ context.Context, name string) (registry.Model, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.m
	m.Name = name
	return m, nil
}

func (s *models) Outline(ctx context.Context, name string, _ int) (registry.Model, error) {
	return s.Model(ctx, name)
}

func (s *models) Version(_ context.Context, name string, number int) (registry.Version, error) {
	return registry.Version{Name: name, Number: number}, nil
}

func (s *models) promote(number int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m.Aliases = []registry.Alias{{Model: s.m.Name, Name: registry.Prod, Target: number, Generation: 1}}
}

// newModels has n versions of a model called news.
func newModels(n int) *models {
	m := registry.Model{Name: "news"}
	for i := range n {
		m.Versions = append(m.Versions, registry.Summary{Number: i + 1})
	}
	return &models{m: m}
}

// opens counts what is open, and holds that nothing closed is used.
type opens struct {
	open, opened atomic.Int64
	fail         atomic.Bool
}

func (o *opens) do(_ context.Context, v registry.Version) (*Servable, error) {
	if o.fail.Load() {
		return nil, errors.New("cannot be opened")
	}
	o.open.Add(1)
	o.opened.Add(1)
	var closed atomic.Bool
	return &Servable{
		Version: v, Signature: task.Signature{},
		closeModel: func() error {
			if closed.Swap(true) {
				panic("closed twice")
			}
			o.open.Add(-1)
			return nil
		},
		infer: func(context.Context, *recorder, map[string]*session.Tensor) (answer, error) {
			if closed.Load() {
				return answer{}, errors.New("used after it was closed")
			}
			return answer{inferences: 1}, nil
		},
	}, nil
}

// settle waits until nothing is being opened or closed.
func (t *Table) settle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.busy > 0 {
		t.settled.Wait()
	}
}

func TestSwitchesWithoutAFailedRequest(t *testing.T) {
	store, o := newModels(8), &opens{}
	store.promote(1)
	table := NewTable(store, o.do)
	stop := make(chan struct{})
	var users sync.WaitGroup
	var requests atomic.Int64
	for range 8 {
		users.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				l, err := table.Acquire(t.Context(), "news", "")
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := l.Infer(t.Context(), nil); err != nil {
					t.Error(err)
				}
				l.Release()
				requests.Add(1)
			}
		})
	}
	for i := 0; i < 200 || requests.Load() < 1000; i++ {
		store.promote(i%8 + 1)
		if err := table.Follow(t.Context(), "news"); err != nil {
			t.Fatal(err)
		}
		l, err := table.Acquire(t.Context(), "news", "")
		if err != nil {
			t.Fatal(err)
		}
		if l.Version.Number != i%8+1 {
			t.Fatalf("after the switch to %d, %d answers", i%8+1, l.Version.Number)
		}
		l.Release()
	}
	close(stop)
	users.Wait()
	table.settle()
	if open := o.open.Load(); open > warm+1 {
		t.Errorf("%d versions are open, want %d at most", open, warm+1)
	}
	table.Close()
	if open := o.open.Load(); open != 0 {
		t.Errorf("%d versions are open after Close", open)
	}
}

func TestRollbackIsWarm(t *testing.T) {
	store, o := newModels(2), &opens{}
	table := NewTable(store, o.do)
	for _, n := range []int{1, 2, 1} {
		store.promote(n)
		if err := table.Follow(t.Context(), "news"); err != nil {
			t.Fatal(err)
		}
	}
	if n := o.opened.Load(); n != 2 {
		t.Errorf("versions were opened %d times, want once each", n)
	}
}

func TestLeaseOutlivesClose(t *testing.T) {
	store, o := newModels(1), &opens{}
	table := NewTable(store, o.do)
	l, err := table.Acquire(t.Context(), "news", "1")
	if err != nil {
		t.Fatal(err)
	}
	table.Close()
	if _, err := l.Infer(t.Context(), nil); err != nil {
		t.Error(err)
	}
	l.Release()
	l.Release() // a second release does nothing
	table.settle()
	if open := o.open.Load(); open != 0 {
		t.Errorf("%d versions are open", open)
	}
	if _, err := table.Acquire(t.Context(), "news", ""); galley.CodeOf(err) != galley.Unavailable {
		t.Errorf("a closed table says %v", err)
	}
}

func TestFailedOpenIsTriedAgain(t *testing.T) {
	store, o := newModels(2), &opens{}
	store.promote(1)
	table := NewTable(store, o.do)
	if err := table.Follow(t.Context(), "news"); err != nil {
		t.Fatal(err)
	}
	o.fail.Store(true)
	store.promote(2)
	if err := table.Follow(t.Context(), "news"); err == nil {
		t.Fatal("a version that cannot be opened took over")
	}
	l, err := table.Acquire(t.Context(), "news", "")
	if err != nil {
		t.Fatal(err)
	}
	if l.Version.Number != 1 {
		t.Errorf("%d answers, want the former version", l.Version.Number)
	}
	l.Release()
	o.fail.Store(false)
	if err := table.Follow(t.Context(), "news"); err != nil {
		t.Error(fmt.Errorf("the next try: %w", err))
	}
}

// Without prod, traffic goes to the newest version: one that appears is taken
// up if someone asks for the model.
func TestRefresh(t *testing.T) {
	store, o := newModels(1), &opens{}
	table := NewTable(store, o.do)
	defer table.Close()
	if err := table.Refresh(t.Context(), "news"); err != nil || o.opened.Load() != 0 {
		t.Errorf("%d opened, %v", o.opened.Load(), err)
	}
	asks := func(want int) {
		t.Helper()
		l, err := table.Acquire(t.Context(), "news", "")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Release()
		if l.Version.Number != want {
			t.Errorf("version %d answers, want %d", l.Version.Number, want)
		}
	}
	asks(1)
	store.mu.Lock()
	store.m.Versions = append(store.m.Versions, registry.Summary{Number: 2})
	store.mu.Unlock()
	if err := table.Refresh(t.Context(), "news"); err != nil {
		t.Error(err)
	}
	asks(2)
}

// With 16 callers sending, 100 promotions and as many rollbacks: no request
// fails, and each is answered by a version that was live while it was asked.
func TestRepliesComeFromALiveVersion(t *testing.T) {
	store, o := newModels(100), &opens{}
	store.promote(1)
	table := NewTable(store, o.do)
	defer table.Close()
	if err := table.Follow(t.Context(), "news"); err != nil {
		t.Fatal(err)
	}
	// live[i] is the version after i switches. A request that begins when
	// ended switches are over may see any from live[ended] on, up to those
	// begun when it is answered.
	live := []int{1}
	for i := range 100 {
		live = append(live, i%99+2, i%99+1)
	}
	var begun, ended atomic.Int64
	stop := make(chan struct{})
	var callers sync.WaitGroup
	var requests atomic.Int64
	for range 16 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				from := ended.Load()
				l, err := table.Acquire(t.Context(), "news", "")
				if err != nil {
					t.Error(err)
					return
				}
				to := begun.Load()
				if _, err := l.Infer(t.Context(), nil); err != nil {
					t.Error(err)
				}
				if !slices.Contains(live[from:to+1], l.Version.Number) {
					t.Errorf("%d answers, want one of %v", l.Version.Number, live[from:to+1])
				}
				l.Release()
				requests.Add(1)
			}
		})
	}
	for i, number := range live[1:] {
		for enough := int64(5 * i); requests.Load() < enough; {
			runtime.Gosched()
		}
		begun.Add(1)
		store.promote(number)
		if err := table.Follow(t.Context(), "news"); err != nil {
			t.Fatal(err)
		}
		ended.Add(1)
	}
	close(stop)
	callers.Wait()
}

// A model that takes long to open holds up no other.
func TestModelsFollowApart(t *testing.T) {
	store, o := newModels(1), &opens{}
	slow := make(chan struct{})
	table := NewTable(store, func(ctx context.Context, v registry.Version) (*Servable, error) {
		if v.Name == "slow" {
			<-slow
		}
		return o.do(ctx, v)
	})
	defer table.Close()
	followed := make(chan error, 2)
	for range 2 {
		go func() { followed <- table.Follow(t.Context(), "slow") }()
	}
	for range 10 {
		l, err := table.Acquire(t.Context(), "news", "")
		if err != nil {
			t.Fatal(err)
		}
		l.Release()
		if err := table.Follow(t.Context(), "news"); err != nil {
			t.Fatal(err)
		}
	}
	close(slow)
	for range 2 {
		if err := <-followed; err != nil {
			t.Error(err)
		}
	}
	if n := len(table.follows); n != 0 {
		t.Errorf("%d turns are left", n)
	}
}

func TestIdleVersionsAreUnloaded(t *testing.T) {
	store, o := newModels(2), &opens{}
	table := NewTable(store, o.do)
	defer table.Close()
	var freed atomic.Int64
	table.Freed = func() { freed.Add(1) }
	used, err := table.Acquire(t.Context(), "news", "1")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		l, err := table.Acquire(t.Context(), "news", "")
		if err != nil {
			t.Fatal(err)
		}
		l.Release()
		table.unload(time.Now().Add(-time.Hour)) // none is idle that long
		table.settle()
		if n := o.open.Load(); n != 2 {
			t.Fatalf("%d versions are open, want 2", n)
		}
		table.unload(time.Now().Add(time.Hour))
		table.settle()
		if n := o.open.Load(); n != 1 {
			t.Fatalf("%d versions are open, want the one in use", n)
		}
	}
	used.Release()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); table.UnloadIdle(ctx, 10*time.Millisecond) }()
	for begun := time.Now(); o.open.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("it stays open")
		}
	}
	cancel()
	<-done
	table.settle()
	if freed.Load() != 4 {
		t.Errorf("memory was given back %d times, want 4", freed.Load())
	}
	if s := table.Statistics("", 0); len(s) != 2 || s[0].Version != 1 || s[1].Version != 2 {
		t.Errorf("the statistics of closed versions are gone: %+v", s)
	}
}

// The version before stays open while traffic's is used, though no request
// goes to it.
func TestFormerVersionStaysWarm(t *testing.T) {
	store, o := newModels(5), &opens{}
	table := NewTable(store, o.do)
	defer table.Close()
	for _, n := range []int{1, 2} {
		store.promote(n)
		if err := table.Follow(t.Context(), "news"); err != nil {
			t.Fatal(err)
		}
	}
	use := func(version string) *Lease {
		t.Helper()
		l, err := table.Acquire(t.Context(), "news", version)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	for _, version := range []string{"3", "4", "5"} { // others do not displace it
		use(version).Release()
	}
	busy := use("")
	table.unload(time.Now().Add(time.Hour))
	table.settle()
	if n := o.open.Load(); n != 2 {
		t.Errorf("%d versions are open, want 2", n)
	}
	busy.Release()
	opened := o.opened.Load()
	store.promote(1)
	if err := table.Follow(t.Context(), "news"); err != nil || o.opened.Load() != opened {
		t.Errorf("a rollback opened its version anew: %v", err)
	}
	table.unload(time.Now().Add(time.Hour))
	table.settle()
	if n := o.open.Load(); n != 0 {
		t.Errorf("%d versions of an idle model are open", n)
	}
}

package serving

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"galley"
	"galley/onnx/session"
	"galley/registry"
	"galley/task"
)

// models is a registry.Store with the two methods that a Table calls.
type models struct {
	registry.Store
	mu sync.Mutex
	m  registry.Model
}

func (s *models) Model(context.Context, string) (registry.Model, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m, nil
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

package serving

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"galley/experiment"
	"galley/onnx/session"
	"galley/registry"
)

// aShadow has version 3 of news asked beside version 2.
func aShadow(t *testing.T, percentage float64) *experiment.Route {
	t.Helper()
	e := anExperiment()
	e.Stages[0].Treatment, e.Metric = 0, experiment.Agreement
	var err error
	if e.Shadow, err = experiment.NewShadow(percentage, 1); err != nil {
		t.Fatal(err)
	}
	if err := e.Check(); err != nil {
		t.Fatal(err)
	}
	return experiment.NewRoute(e, nil)
}

func TestAShadowReachesNoCaller(t *testing.T) {
	store, o := newModels(3), &opens{}
	store.promote(2)
	var asked, broken atomic.Int64
	table := NewTable(store, func(ctx context.Context, v registry.Version) (*Servable, error) {
		s, err := o.do(ctx, v)
		if err != nil {
			return nil, err
		}
		s.infer = func(context.Context, *recorder, map[string]*session.Tensor) (answer, error) {
			label := "sport"
			if v.Number == 3 {
				switch asked.Add(1) % 4 {
				case 0:
					broken.Add(1)
					panic("at the graph")
				case 1:
					label = "money"
				}
			}
			out, err := session.NewStrings([]string{label}, 1)
			return answer{outputs: map[string]*session.Tensor{"label": out}, inferences: 1}, err
		}
		return s, nil
	})
	defer table.Close()
	r := aShadow(t, 100)
	table.SetRoute("news", r)
	const requests = 40
	for i := range requests {
		l, err := table.AcquireFor(t.Context(), "news", "", "")
		if err != nil {
			t.Fatal(err)
		}
		outputs, err := l.Infer(t.Context(), nil)
		if err != nil || l.Version.Number != 2 || outputs["label"].Strings()[0] != "sport" || l.Assignment.Split() {
			t.Fatalf("%d: %v, %v", i, l.Version.Number, err)
		}
		l.Release()
		time.Sleep(time.Millisecond)
	}
	deadline := time.Now().Add(10 * time.Second)
	f := r.Figures(time.Now())
	for f[experiment.Treatment].Requests < requests && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
		f = r.Figures(time.Now())
	}
	if f[experiment.Control].Requests != requests || f[experiment.Treatment].Requests != requests || f[experiment.Treatment].Errors != broken.Load() {
		t.Errorf("%+v, and %d broke", f, broken.Load())
	}
	c := r.Meters[experiment.Treatment].Take()
	if c.Compared != requests-broken.Load() || c.Agreed != requests/2 {
		t.Errorf("%+v", c)
	}
}

// TestAShadowGivesWay: requests that come while there is no room, or while the
// control is busy, are not shadowed, and wait for nothing.
func TestAShadowGivesWay(t *testing.T) {
	store, o := newModels(3), &opens{}
	store.promote(2)
	var asked atomic.Int64
	busy := atomic.Int64{}
	busy.Store(1)
	table := NewTable(store, func(ctx context.Context, v registry.Version) (*Servable, error) {
		s, err := o.do(ctx, v)
		if err != nil {
			return nil, err
		}
		s.load = func() int { return int(busy.Load()) }
		s.infer = func(context.Context, *recorder, map[string]*session.Tensor) (answer, error) {
			if v.Number == 3 {
				asked.Add(1)
			}
			return answer{inferences: 1}, nil
		}
		return s, nil
	})
	defer table.Close()
	r := aShadow(t, 100)
	table.SetRoute("news", r)
	for range 10 * shadowQueue {
		answers(t, table, "", "")
	}
	if n := r.Meters[experiment.Treatment].Dropped(); n[experiment.NoRoom] < 9*shadowQueue-20 || n[experiment.NoRoom] > 9*shadowQueue {
		t.Errorf("dropped: %v", n)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d were shadowed while the control was busy", n)
	}
	deadline := time.Now().Add(10 * time.Second)
	for r.Meters[experiment.Treatment].Dropped()[experiment.NoIdle] == 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if n := r.Meters[experiment.Treatment].Dropped(); n[experiment.NoIdle] == 0 {
		t.Errorf("dropped: %v", n)
	}
	busy.Store(0)
	deadline = time.Now().Add(10 * time.Second)
	for asked.Load() == 0 && time.Now().Before(deadline) {
		answers(t, table, "", "")
		time.Sleep(time.Millisecond)
	}
	if n := asked.Load(); n == 0 || n > 2*shadowQueue+10 {
		t.Errorf("%d were shadowed", n)
	}
}

// TestAShadowsRunGivesWay: a request that comes while a shadow runs ends the run.
// It is tried again, at last to its end, and counts once.
func TestAShadowsRunGivesWay(t *testing.T) {
	store, o := newModels(3), &opens{}
	store.promote(2)
	began, ended, finish := make(chan int64), make(chan error), make(chan struct{})
	var tries atomic.Int64
	table := NewTable(store, func(ctx context.Context, v registry.Version) (*Servable, error) {
		s, err := o.do(ctx, v)
		if err != nil {
			return nil, err
		}
		s.infer = func(ctx context.Context, _ *recorder, _ map[string]*session.Tensor) (answer, error) {
			if v.Number != 3 {
				return answer{inferences: 1}, nil
			}
			began <- tries.Add(1)
			select {
			case <-ctx.Done():
				ended <- ctx.Err()
				return answer{}, ctx.Err()
			case <-finish:
				return answer{inferences: 1}, nil
			}
		}
		return s, nil
	})
	defer table.Close()
	r := aShadow(t, 100)
	table.SetRoute("news", r)
	answers(t, table, "", "")
	table.SetRoute("news", nil) // one is shadowed
	for try := int64(1); try < shadowTries; try++ {
		if n := <-began; n != try {
			t.Fatalf("try %d is number %d", try, n)
		}
		answers(t, table, "", "")
		if err := <-ended; err != context.Canceled {
			t.Fatal(err)
		}
	}
	if n := <-began; n != shadowTries {
		t.Fatalf("the last try is number %d", n)
	}
	answers(t, table, "", "")
	select {
	case err := <-ended:
		t.Fatalf("the last try ended: %v", err)
	case finish <- struct{}{}:
	}
	deadline := time.Now().Add(10 * time.Second)
	for r.Figures(time.Now())[experiment.Treatment].Requests == 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if f := r.Figures(time.Now())[experiment.Treatment]; f.Requests != 1 || f.Errors != 0 {
		t.Errorf("%+v", f)
	}
	if s := table.Statistics("news", 3); len(s) != 1 || s[0].Success.Count != 1 || s[0].Fail.Count != 0 {
		t.Errorf("%+v", s)
	}
}

func TestAShareOfRequestsIsShadowed(t *testing.T) {
	r := aShadow(t, 25)
	n := 0
	for i := range uint64(1000) {
		a := r.Assign("", i<<54|i)
		if a.Arm != experiment.Control {
			t.Fatal("the treatment answers")
		}
		if a.Shadowed() {
			n++
		}
	}
	if n < 240 || n > 260 {
		t.Errorf("%d of 1000", n)
	}
}

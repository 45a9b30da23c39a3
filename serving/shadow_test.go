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
	for asked.Load() < requests && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(10 * time.Millisecond) // until the last is counted
	f := r.Figures(time.Now())
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
	table.SetRoute("news", aShadow(t, 100))
	for range 10 * shadowQueue {
		answers(t, table, "", "")
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d were shadowed while the control was busy", n)
	}
	busy.Store(0)
	deadline := time.Now().Add(10 * time.Second)
	for asked.Load() == 0 && time.Now().Before(deadline) {
		answers(t, table, "", "")
		time.Sleep(time.Millisecond)
	}
	if n := asked.Load(); n == 0 || n > 2*shadowQueue+10 {
		t.Errorf("%d were shadowed", n)
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

package serving

import (
	"context"
	"runtime"
	"testing"
	"time"

	"galley/experiment"
	"galley/onnx/session"
	"galley/registry"
)

// TestAShadowKeepsItsBudget: between two runs of a treatment is as much time as
// its budget leaves to others, also when nobody asks the control.
func TestAShadowKeepsItsBudget(t *testing.T) {
	const ran, rests = 10 * time.Millisecond, 9 // for each time that it ran
	store, o := newModels(3), &opens{}
	store.promote(2)
	type run struct{ began, ended time.Time }
	runs := make(chan run, 16)
	table := NewTable(store, func(ctx context.Context, v registry.Version) (*Servable, error) {
		s, err := o.do(ctx, v)
		if err != nil {
			return nil, err
		}
		s.infer = func(context.Context, *recorder, map[string]*session.Tensor) (answer, error) {
			if v.Number == 3 {
				began := time.Now()
				time.Sleep(ran)
				runs <- run{began, time.Now()}
			}
			return answer{inferences: 1}, nil
		}
		return s, nil
	})
	defer table.Close()
	e := anExperiment()
	e.Stages[0].Treatment, e.Metric = 0, experiment.Agreement
	var err error
	if e.Shadow, err = experiment.NewShadow(100, 1/float64((rests+1)*runtime.GOMAXPROCS(0))); err != nil {
		t.Fatal(err)
	}
	table.SetRoute("news", experiment.NewRoute(e, nil))
	const requests = 4
	for range requests {
		answers(t, table, "", "")
	}
	last := <-runs
	for range requests - 1 {
		next := <-runs
		if took, rest := last.ended.Sub(last.began), next.began.Sub(last.ended); rest < rests*took {
			t.Errorf("a run of %s is followed by another after %s", took, rest)
		}
		last = next
	}
}

package serving

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"galley"
	"galley/experiment"
	"galley/onnx/session"
	"galley/registry"
)

// anExperiment compares versions 2 and 3 of news, half and half.
func anExperiment() experiment.Experiment {
	return experiment.Experiment{
		ID: 1, Name: "test", Model: "news", Versions: [2]int{2, 3}, Stages: []experiment.Stage{{Treatment: experiment.Parts / 2}},
		Metric: "click", Unit: experiment.PerOutcome, Guards: experiment.DefaultGuards(), Salt: make([]byte, experiment.SaltSize), State: experiment.Running,
	}
}

// answers returns which version answers a request.
func answers(t *testing.T, table *Table, version, key string) int {
	t.Helper()
	l, err := table.AcquireFor(t.Context(), "news", version, key)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if _, err := l.Infer(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return l.Version.Number
}

func TestAnExperimentSplitsTraffic(t *testing.T) {
	store, o := newModels(5), &opens{}
	store.promote(1)
	table := NewTable(store, o.do)
	defer table.Close()
	if got := answers(t, table, "", "reader"); got != 1 {
		t.Errorf("before the experiment version %d answers", got)
	}
	e := anExperiment()
	r := experiment.NewRoute(e, nil)
	table.SetRoute("news", r)
	n := [2]int64{}
	for i := range 200 {
		key := fmt.Sprint("reader-", i)
		first, second := answers(t, table, "", key), answers(t, table, "", key)
		if first != second || first < 2 || first > 3 {
			t.Fatalf("%s was answered by %d, then by %d", key, first, second)
		}
		n[first-2] += 2
	}
	for _, arm := range experiment.Arms {
		if f := r.Figures(time.Now()); f[arm].Requests != n[arm] || n[arm] < 100 {
			t.Errorf("%s answered %d, counted %+v", arm, n[arm], f[arm])
		}
	}
	// A version that is named is no part of it, and what is asked without a
	// prediction sees the control.
	if got := answers(t, table, "4", "reader"); got != 4 {
		t.Errorf("version 4 was asked, and %d answered", got)
	}
	l, err := table.Acquire(t.Context(), "news", "")
	if err != nil || l.Version.Number != 2 {
		t.Errorf("%+v, %v", l, err)
	}
	l.Release()
	if f := r.Figures(time.Now()); f[0].Requests+f[1].Requests != 400 {
		t.Errorf("%+v", f)
	}
	// Others that are asked for by number close no arm.
	for _, number := range []string{"1", "4", "5", "1", "4"} {
		answers(t, table, number, "")
	}
	table.settle()
	before := o.opened.Load()
	for i := range 20 {
		answers(t, table, "", fmt.Sprint("reader-", i))
	}
	if now := o.opened.Load(); now != before {
		t.Errorf("%d versions were opened anew", now-before)
	}
	// A hold sends all to control, without a key, too.
	table.SetRoute("news", r.Held())
	for i := range 20 {
		if got := answers(t, table, "", fmt.Sprint("reader-", i)); got != 2 {
			t.Errorf("version %d answers while control is held", got)
		}
	}
	table.SetRoute("news", nil)
	if got := answers(t, table, "", "reader"); got != 1 {
		t.Errorf("after the experiment version %d answers", got)
	}
}

func TestAKeyThatIsTooLong(t *testing.T) {
	store, o := newModels(2), &opens{}
	table := NewTable(store, o.do)
	defer table.Close()
	if _, err := table.AcquireFor(t.Context(), "news", "", string(make([]byte, 300))); galley.CodeOf(err) != galley.InvalidArgument {
		t.Errorf("%v", err)
	}
}

func TestWhatAnArmIsBlamedFor(t *testing.T) {
	store, o := newModels(3), &opens{}
	table := NewTable(store, func(ctx context.Context, v registry.Version) (*Servable, error) {
		s, err := o.do(ctx, v)
		if err != nil {
			return nil, err
		}
		s.infer = func(_ context.Context, _ *recorder, inputs map[string]*session.Tensor) (answer, error) {
			// As the runtime says of an index that is out of range.
			return answer{}, galley.Errorf(galley.InvalidArgument, "graph", "broke")
		}
		return s, nil
	})
	defer table.Close()
	r := experiment.NewRoute(anExperiment(), nil)
	table.SetRoute("news", r)
	ask := func(inputs map[string]*session.Tensor) {
		l, err := table.AcquireFor(t.Context(), "news", "", "reader")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Release()
		if _, err := l.Infer(t.Context(), inputs); err == nil {
			t.Error("it answered")
		}
	}
	x, err := session.New([]float32{1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	ask(nil)
	ask(map[string]*session.Tensor{"x": x}) // is no input: the caller's fault
	f := r.Figures(time.Now())
	if f[0].Errors+f[1].Errors != 1 || f[0].Requests+f[1].Requests != 1 {
		t.Errorf("%+v", f)
	}
}

func TestEmptyAnswers(t *testing.T) {
	number := func(x ...float32) *session.Tensor {
		n, err := session.New(x, int64(len(x)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	words := func(s ...string) *session.Tensor {
		n, err := session.NewStrings(s, int64(len(s)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	nan := float32(math.NaN())
	for name, c := range map[string]struct {
		in, out *session.Tensor
		want    bool
	}{
		"a label":          {words("a"), words("sport"), false},
		"no label":         {words("a"), words(""), true},
		"one of two":       {words("a", "b"), words("sport", ""), true},
		"numbers":          {words("a"), number(0, 1), false},
		"no numbers":       {words("a"), number(0, nan), true},
		"nothing":          {words("a"), number(), true},
		"nothing for none": {words(), number(), false},
	} {
		if got := empty(map[string]*session.Tensor{"in": c.in}, map[string]*session.Tensor{"out": c.out}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

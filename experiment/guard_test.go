package experiment

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"galley"
)

func TestParseGuard(t *testing.T) {
	for in, want := range map[string]Guard{
		"error_rate=0.02": {ErrorRate, 0.02}, "empty=0": {Empty, 0}, "p99=50ms": {P99, 50}, "p99=50": {P99, 50},
	} {
		if got, err := ParseGuard(in); err != nil || got != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "error_rate", "error_rate=2", "error_rate=NaN", "p99=0", "p99=2h", "speed=1", "empty=50ms"} {
		if _, err := ParseGuard(in); galley.CodeOf(err) != galley.InvalidArgument || galley.AsError(err).Remedy == "" {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestAWindowSlides(t *testing.T) {
	m := NewMeter(10 * time.Second)
	for i := range 100 { // a failure a second, four answers beside it
		at := noon.Add(time.Duration(i) * time.Second)
		m.Observe(at, time.Second, true, false)
		for range 3 {
			m.Observe(at, 10*time.Millisecond, false, false)
		}
		m.Observe(at, 100*time.Millisecond, false, true)
	}
	last := noon.Add(99 * time.Second)
	f := m.Read(last)
	if f.Requests != 50 || f.Errors != 10 || f.Empty != 10 {
		t.Errorf("the window has %+v", f)
	}
	if f.P99 < 100*time.Millisecond || f.P99 > 105*time.Millisecond {
		t.Errorf("p99 is %s", f.P99)
	}
	if f := m.Read(last.Add(20 * time.Second)); f != (Figures{}) {
		t.Errorf("later it has %+v", f)
	}
	m.Compare(true)
	m.Compare(false)
	if got := m.Take(); got != (Counts{500, 100, 100, 2, 1}) {
		t.Errorf("all are %+v", got)
	}
	if got := m.Take(); got != (Counts{}) {
		t.Errorf("after that there are %+v", got)
	}
}

// TestP99IsThatOfTheAnswers: a p99 is never less than that of the answers
// themselves, and at most a twentieth more.
func TestP99IsThatOfTheAnswers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		took := rapid.SliceOfN(rapid.Int64Range(int64(firstBucket), int64(time.Hour)), 1, 300).Draw(t, "took")
		m := NewMeter(DefaultWindow)
		for _, d := range took {
			m.Observe(noon, time.Duration(d), false, false)
		}
		slices.Sort(took)
		want := float64(took[(99*len(took)+99)/100-1])
		if got := float64(m.Read(noon).P99); got < want || got > want*bucketGrowth+1 {
			t.Fatalf("%s, and it was %s", time.Duration(got), time.Duration(want))
		}
	})
	m := NewMeter(DefaultWindow)
	for _, d := range []time.Duration{0, 100 * time.Hour} { // the ends of the scale
		m.Observe(noon, d, false, false)
	}
	if got := m.Read(noon).P99; got < time.Hour {
		t.Errorf("%s", got)
	}
}

func TestGuardsJudge(t *testing.T) {
	g := Guards{Rules: []Guard{{ErrorRate, 0.1}, {P99, 50}, {Empty, 0.1}}, Window: DefaultWindow, MinimumRequests: 50}
	if got, broken := g.Judge([2]Figures{{Requests: 200, Errors: 60}, {Requests: 100, Errors: 35}}); broken {
		t.Errorf("what both fail at breaks %v", got)
	}
	for name, c := range map[string]struct {
		figures Figures
		breaks  Measure
	}{
		"good":             {Figures{Requests: 100, Errors: 10, Empty: 9, P99: 50 * time.Millisecond}, ""},
		"too few to judge": {Figures{Requests: 49, Errors: 49}, ""},
		"fails":            {Figures{Requests: 100, Errors: 11}, ErrorRate},
		"slow":             {Figures{Requests: 100, P99: 51 * time.Millisecond}, P99},
		"empty":            {Figures{Requests: 100, Errors: 10, Empty: 11}, Empty},
	} {
		got, broken := g.Judge([2]Figures{{Requests: 200, Empty: 2}, c.figures})
		if got.Measure != c.breaks || broken != (c.breaks != "") {
			t.Errorf("%s: %v, %v", name, got, broken)
		}
	}
}

func TestRoutes(t *testing.T) {
	e := example()
	r := NewRoute(e, nil)
	a := r.Assign("reader", 0)
	if b := r.Assign("reader", 99); a != b {
		t.Errorf("a key went to %v, then to %v", a, b)
	}
	if a := r.Assign("", 1<<63); a.Place != 1<<63 || a.Arm != Control {
		t.Errorf("chance went to %v", a)
	}
	a.Observe(noon, time.Millisecond, true, false)
	if f := r.Figures(noon); f[a.Arm].Errors != 1 {
		t.Errorf("%+v", f)
	}
	e.Stages = append(e.Stages, Stage{Treatment: 2000, Since: noon})
	if next := NewRoute(e, r); next.Meters != r.Meters || next.Number != 1 {
		t.Error("new shares have new meters")
	}
	held := r.Held()
	if a := held.Assign("reader", 0); a != (Assignment{}) || held.Live() || !r.Live() {
		t.Errorf("a hold assigns %v", a)
	}
	e.State = RolledBack
	if NewRoute(e, nil).Live() {
		t.Error("the route of what was rolled back is live")
	}
}

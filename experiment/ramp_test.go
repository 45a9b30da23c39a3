package experiment

import (
	"reflect"
	"testing"
	"time"

	"galley"
)

func TestParseRamp(t *testing.T) {
	r, err := ParseRamp("1,5, 25%,50", time.Minute)
	if err != nil || !reflect.DeepEqual(r, &Ramp{[]int{100, 500, 2500, 5000}, time.Minute}) {
		t.Errorf("%+v, %v", r, err)
	}
	for _, s := range []string{"", "1", "5,1", "5,5", "1,ten", "0,5", "5,100", "1,200", "-1,5", "1,NaN", "1,0.001"} {
		if _, err := ParseRamp(s, time.Minute); galley.CodeOf(err) != galley.InvalidArgument || galley.AsError(err).Remedy == "" {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, every := range []time.Duration{0, time.Millisecond, 1000 * time.Hour} {
		if _, err := ParseRamp("1,5", every); galley.CodeOf(err) != galley.InvalidArgument {
			t.Errorf("%s: %v", every, err)
		}
	}
}

func TestACanaryGoesUp(t *testing.T) {
	e := example()
	e.Ramp = &Ramp{[]int{1000, 2000, 5000}, time.Hour}
	if err := e.Check(); err != nil {
		t.Fatal(err)
	}
	ramp := func(after time.Duration, want int, steps bool) {
		t.Helper()
		var effects []Effect
		var err error
		e, effects, err = Step(e, Ramped{noon.Add(after)})
		if err != nil || e.Stage().Treatment != want || steps != (len(effects) == 1) {
			t.Errorf("after %s: %d, %v, %v", after, e.Stage().Treatment, effects, err)
		}
	}
	ramp(59*time.Minute, 1000, false)
	ramp(time.Hour, 2000, true)
	ramp(100*time.Minute, 2000, false)
	e, _, _ = Step(e, Resplit{noon.Add(100 * time.Minute), 500}) // by hand
	if _, at, ok := e.Next(); !ok || at != noon.Add(160*time.Minute) || NewRoute(e, nil).Due != at {
		t.Errorf("the next step is at %s", at)
	}
	ramp(160*time.Minute, 1000, true)
	ramp(220*time.Minute, 2000, true)
	ramp(280*time.Minute, 5000, true)
	ramp(999*time.Minute, 5000, false)
	if _, _, ok := e.Next(); ok || !NewRoute(e, nil).Due.IsZero() {
		t.Error("it goes on for ever")
	}
	e.Ramp = &Ramp{[]int{2000, 5000}, time.Hour}
	e.Stages = example().Stages
	if galley.CodeOf(e.Check()) != galley.InvalidArgument {
		t.Error("a ramp may begin elsewhere than the split")
	}
}

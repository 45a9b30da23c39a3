package experiment

import (
	"math"
	"testing"
	"time"

	"galley"
)

func TestShadows(t *testing.T) {
	s, err := NewShadow(100, 0)
	if err != nil || s.Share != Parts || s.Budget != DefaultBudget {
		t.Errorf("%+v, %v", s, err)
	}
	for _, c := range [][2]float64{{0, 0.5}, {-1, 0.5}, {101, 0.5}, {math.NaN(), 0.5}, {0.001, 0.5}, {50, -1}, {50, 2}, {50, math.NaN()}} {
		if _, err := NewShadow(c[0], c[1]); galley.CodeOf(err) != galley.InvalidArgument || galley.AsError(err).Remedy == "" {
			t.Errorf("%v: %v", c, err)
		}
	}
	for _, c := range []struct {
		budget     float64
		processors int
		want       time.Duration
	}{{0.5, 2, 0}, {0.25, 2, time.Second}, {0.5, 1, time.Second}, {1, 8, 0}} {
		if got := (&Shadow{Budget: c.budget}).Pause(time.Second, c.processors); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	e := example()
	e.Shadow = s
	if galley.CodeOf(e.Check()) != galley.InvalidArgument {
		t.Error("a shadow has another metric")
	}
	e.Metric = Agreement
	if galley.CodeOf(e.Check()) != galley.InvalidArgument {
		t.Error("a shadow splits")
	}
	e.Stages = []Stage{{Since: noon}}
	if err := e.Check(); err != nil {
		t.Error(err)
	}
	if _, _, err := Step(e, Resplit{noon, 1000}); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Error(err)
	}
	r := Judge(e, [][2]Totals{{{}, {Outcomes: Tally{100, 90}, Keys: Tally{100, 90}}}})
	if r.Verdict != Undecided || r.Mismatch || r.Arms[Treatment].Counted != (Tally{100, 90}) || !(r.Arms[Treatment].Rate.Low > 0.7) || len(r.Warnings) > 0 {
		t.Errorf("%+v", r)
	}
	if NewRoute(e, nil).Assign("reader", 0).Split() {
		t.Error("a shadow's answers are an arm's")
	}
}

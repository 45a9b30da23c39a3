package experiment

import (
	"strings"
	"testing"
)

func totals(control, treatment Tally) [][2]Totals {
	return [][2]Totals{{{Outcomes: control, Keys: control}, {Outcomes: treatment, Keys: treatment}}}
}

func TestJudge(t *testing.T) {
	e := example()
	e.Stages = []Stage{{Treatment: 5000, Since: noon}}
	for name, c := range map[string]struct {
		metric             Metric
		control, treatment Tally
		verdict            Verdict
		mismatch           bool
	}{
		"nothing yet":       {"click", Tally{}, Tally{}, Undecided, false},
		"one arm":           {"click", Tally{4, 2}, Tally{}, Undecided, false},
		"alike":             {"click", Tally{500, 250}, Tally{505, 255}, Undecided, false},
		"treatment better":  {"click", Tally{500, 200}, Tally{505, 300}, ForTreatment, false},
		"control better":    {"click", Tally{500, 300}, Tally{505, 200}, ForControl, false},
		"fewer corrections": {"correction", Tally{500, 300}, Tally{505, 200}, ForTreatment, false},
		"outcomes missing":  {"click", Tally{500, 200}, Tally{300, 200}, ForTreatment, true},
	} {
		e.Metric = c.metric
		r := Judge(e, totals(c.control, c.treatment))
		if r.Verdict != c.verdict || r.Mismatch != c.mismatch {
			t.Errorf("%s: %+v", name, r)
		}
		if c.mismatch != (len(r.Warnings) > 0 && strings.HasPrefix(r.Warnings[0], "sample-ratio mismatch: ")) {
			t.Errorf("%s warns %q", name, r.Warnings)
		}
		if !strings.HasPrefix(r.Evidence(e), string(c.metric)+": control news@1 ") {
			t.Errorf("%s: %s", name, r.Evidence(e))
		}
	}
}

func TestAKeyWithManyOutcomes(t *testing.T) {
	e := example()
	e.Stages = []Stage{{Treatment: 5000, Since: noon}}
	many := [][2]Totals{{
		{Outcomes: Tally{1000, 200}, Keys: Tally{20, 6}},
		{Outcomes: Tally{1000, 400}, Keys: Tally{21, 9}},
	}}
	r := Judge(e, many)
	if r.Verdict != ForTreatment || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "2000 outcomes came from 41 request keys") {
		t.Errorf("%+v", r)
	}
	e.Unit = PerKey
	if r := Judge(e, many); r.Verdict != Undecided || len(r.Warnings) != 0 || r.Arms[Treatment].Counted != (Tally{21, 9}) {
		t.Errorf("%+v", r)
	}
}

func BenchmarkJudge(b *testing.B) {
	e := example()
	for b.Loop() {
		Judge(e, totals(Tally{90_000, 18_000}, Tally{10_000, 2_050}))
	}
}

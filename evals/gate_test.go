package evals

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"galley"
)

// beside makes a report of a model beside one in production: of n rows both
// have right all but those that one alone has.
func beside(n, onlyOwn, onlyProd int, p50, p99 float64) (*Report, *Baseline) {
	wrong := n / 10
	pairs := Pairing{N: n, OnlyA: onlyOwn, OnlyB: onlyProd}
	prod := Baseline{
		Name: "news@1", Model: "sha256:1", Pairing: pairs, Difference: pairs.Difference(), P: pairs.McNemar(), Agreement: Wilson(n-1, n), SizeBytes: 100,
		Metrics:   map[string]Metric{Accuracy: Wilson(n-wrong-onlyOwn, n), Loss: {Value: .5, N: n}},
		LatencyMS: &Latency{P50: 2, P99: 4, N: 200},
		Ratios:    map[string]Metric{LatencyMedian: {Value: p50, Low: p50 - .02, High: p50 + .02, N: 200}, LatencyTail: {Value: p99, Low: p99 - .3, High: p99 + .3, N: 200}},
		Slices:    []Contrast{{Slice: Slice{Name: "language=zh", N: 10, Metrics: map[string]Metric{Accuracy: Wilson(9, 10)}}, Difference: Pairing{N: 10, OnlyB: 2}.Difference()}},
	}
	return &Report{
		N: n, Metrics: map[string]Metric{Accuracy: Wilson(n-wrong-onlyProd, n), Loss: {Value: .6, N: n}, Agreement: prod.Agreement},
		Slices:    []Slice{{Name: "language=zh", N: 10, Metrics: map[string]Metric{Accuracy: Wilson(7, 10)}}},
		LatencyMS: Latency{P50: 2 * p50, P99: 4 * p99, N: 200}, Resources: Resources{SizeBytes: 120, RowsPerSecond: 50},
		Baselines: []Baseline{prod},
	}, &prod
}

func TestDefaultGate(t *testing.T) {
	tests := map[string]struct {
		n, own, prod int
		p50, p99     float64
		fails        string
	}{
		"equal":                     {1000, 0, 0, 1, 1, ""},
		"a point worse":             {1000, 0, 10, 1, 1, ""},
		"more than a point worse":   {1000, 0, 11, 1, 1, "accuracy"},
		"may be five points worse":  {40, 2, 2, 1, 1, "accuracy lower bound"},
		"better, but on few rows":   {10, 3, 2, 1, 1, "accuracy lower bound"},
		"as slow as may be":         {1000, 0, 0, 1.1, 1.5, ""},
		"median too slow":           {1000, 0, 0, 1.11, 1, "latency_ms.p50 ratio"},
		"tail too slow":             {1000, 0, 0, 1, 1.51, "latency_ms.p99 ratio"},
		"worse and slower":          {1000, 0, 300, 2, 2, "accuracy, accuracy lower bound, latency_ms.p50 ratio, latency_ms.p99 ratio"},
		"much better, and smaller":  {1000, 100, 0, .5, .5, ""},
		"differs much, is as right": {1000, 100, 100, 1, 1, ""},
	}
	for name, tt := range tests {
		report, prod := beside(tt.n, tt.own, tt.prod, tt.p50, tt.p99)
		v := DefaultGate().Judge(report, prod)
		var failed []string
		for _, c := range v.Checks {
			if c.Detail == "" {
				t.Errorf("%s: %s has no figures", name, c.Name)
			}
			if !c.Passed {
				failed = append(failed, c.Name)
			}
		}
		if got := strings.Join(failed, ", "); got != tt.fails || v.Passed != (tt.fails == "") || len(v.Checks) != 5 {
			t.Errorf("%s: failed %q, want %q: %+v", name, got, tt.fails, v)
		}
	}
	report, _ := beside(10, 0, 0, 1, 1)
	if v := DefaultGate().Judge(report, nil); !v.Passed || len(v.Checks) != 3 || !strings.Contains(v.Checks[0].Detail, "no other version is in production") {
		t.Errorf("first promotion: %+v", v)
	}
}

func TestGateRules(t *testing.T) {
	report, prod := beside(100, 0, 0, 1, 1)
	at := func(x float64) *float64 { return &x }
	for _, tt := range []struct {
		rule   Rule
		passes bool
		says   string
	}{
		{Rule{Metric: Accuracy, Min: at(.9)}, true, "0.9, at least 0.9"},
		{Rule{Metric: Accuracy, Min: at(.91)}, false, "0.9, at least 0.91"},
		{Rule{Metric: Loss, Max: at(.5)}, false, "0.6, at most 0.5"},
		{Rule{Metric: Loss, MaxWorse: at(.05)}, false, "worse by 0.1"},
		{Rule{Metric: Loss, MaxWorse: at(.1)}, true, "worse by 0.1"},
		{Rule{Metric: Accuracy, Slice: "language=zh", MaxWorse: at(.1)}, false, "0.7 against 0.9"},
		{Rule{Metric: Accuracy, Slice: "language=zh", MaxWorseBound: at(.6)}, true, "on 10 rows"},
		{Rule{Metric: Accuracy, Slice: "language=fr", Min: at(0)}, false, "the report has no accuracy of language=fr"},
		{Rule{Metric: ECE, Max: at(1)}, false, "the report has no ece"},
		{Rule{Metric: Agreement, Min: at(.98)}, true, "0.99"},
		{Rule{Metric: "size_bytes", MaxRatio: at(1.1)}, false, "120 against 100"},
		{Rule{Metric: "size_bytes", MaxRatio: at(1.2)}, true, "120 against 100"},
		{Rule{Metric: "rows_per_second", Min: at(100)}, false, "50, at least 100"},
		{Rule{Metric: LatencyMedian, Max: at(1)}, false, "2, at most 1"},
		{Rule{Metric: MacroF1, MaxWorse: at(1)}, false, "has no macro_f1"},
	} {
		g := Gate{Rules: []Rule{tt.rule}}
		if err := g.Validate(); err != nil {
			t.Errorf("%+v: %v", tt.rule, err)
		}
		if v := g.Judge(report, prod); v.Passed != tt.passes || !strings.Contains(v.Checks[0].Detail, tt.says) {
			t.Errorf("%+v: %+v", tt.rule, v)
		}
	}
}

func TestDecodeGate(t *testing.T) {
	data, err := json.Marshal(DefaultGate())
	if err != nil {
		t.Fatal(err)
	}
	if g, err := DecodeGate(bytes.NewReader(data)); err != nil || len(g.Rules) != 3 || *g.Rules[0].MaxWorse != .01 {
		t.Errorf("%+v, %v", g, err)
	}
	for _, bad := range []string{
		``, `{`, `{"rules":[{"metric":"accuracy","least":1}]}`, `{"rules":[{"metric":"beauty","min":1}]}`, `{"rules":[{"metric":"accuracy"}]}`,
		`{"rules":[{"metric":"loss","max_worse_bound":1}]}`, `{"rules":[{"metric":"accuracy","max_worse":-1}]}`, `{"rules":[{"metric":"agreement","max_ratio":1}]}`,
		`{"rules":[{"metric":"peak_bytes","max_worse":1}]}`, `{"rules":[{"metric":"size_bytes","slice":"language=zh","max":1}]}`, `{"rules":[{"metric":"accuracy","slice":"a\nb","max":1}]}`,
		`{"split":"test","rules":[]}`, `{"data":"news","split":"tests","rules":[]}`, `{"data":"news:prod","rules":[]}`, `{"data":"News","rules":[]}`,
		`{"rules":[{"metric":"accuracy","min":1e999}]}`, `{"rules":[]} {}`,
		`{"rules":[` + strings.Repeat(`{"metric":"accuracy","min":1},`, 100) + `{"metric":"accuracy","min":1}]}`, `{"rules":[]}` + strings.Repeat(" ", maxGateBytes),
	} {
		if _, err := DecodeGate(strings.NewReader(bad)); err == nil {
			t.Errorf("%.80s is taken for a gate", bad)
		}
	}
	if err := (Gate{Rules: []Rule{{Metric: Accuracy, Min: new(math.NaN())}}}).Validate(); galley.CodeOf(err) != galley.InvalidArgument {
		t.Error(err)
	}
}

// What is read as a gate can be judged by, whatever the report.
func FuzzDecodeGate(f *testing.F) {
	f.Add([]byte(`{"rules":[{"metric":"accuracy","max_worse":0.01,"max_worse_bound":0.05},{"metric":"latency_ms.p99","max_ratio":1.5}]}`))
	f.Add([]byte(`{"rules":[{"metric":"accuracy","slice":"language=zh","min":0.5,"max_ratio":1}]}`))
	f.Add([]byte(`{"rules":[{"metric":"size_bytes","max":1e308}]}`))
	report, prod := beside(10, 1, 1, 1, 1)
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := DecodeGate(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, v := range []Verdict{g.Judge(report, prod), g.Judge(report, nil), g.Judge(&Report{}, &Baseline{}), g.Judge(&Report{}, nil)} {
			for _, c := range v.Checks {
				if c.Name == "" || c.Detail == "" || v.Passed && !c.Passed {
					t.Fatalf("%+v", v)
				}
			}
		}
	})
}

// Two models that differ by what is said to be detectable are told apart four
// times in five.
func TestDetectable(t *testing.T) {
	random := rand.New(rand.NewPCG(8, 9))
	for _, tt := range []struct {
		rows  int
		share float64
	}{{500, .1}, {2000, .05}, {300, .3}} {
		p := Pairing{N: tt.rows, OnlyA: int(tt.share * float64(tt.rows) / 2)}
		p.OnlyB = int(tt.share*float64(tt.rows)) - p.OnlyA
		d := p.Detectable()
		shown := 0
		const trials = 3000
		for range trials {
			var drawn Pairing
			for range tt.rows {
				x := random.Float64()
				drawn.Add(x < (tt.share-d)/2, x >= (tt.share-d)/2 && x < tt.share)
			}
			// McNemar's test in its normal form, for which the formula is.
			b, c := float64(drawn.OnlyA), float64(drawn.OnlyB)
			if math.Abs(b-c) > z95*math.Sqrt(b+c) {
				shown++
			}
		}
		if power := float64(shown) / trials; power < .76 || power > .85 {
			t.Errorf("%+v: %.4f is shown %.3f of the time", tt, d, power)
		}
	}
	// More rows show more; without rows, or without a difference, it is finite.
	last := 2.0
	for _, n := range []int{0, 1, 10, 100, 1000, 1_000_000} {
		d := Pairing{N: n}.Detectable()
		if !(d > 0) || d > 1 || d >= last && n > 1 {
			t.Errorf("%d rows: %v after %v", n, d, last)
		}
		last = d
	}
}

// Ratios are told through the noise of a busy machine.
func TestRatios(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const texts, rounds = 200, 5
	for _, factor := range []float64{1, 1.3, 2} {
		own, other := make(timings, texts), make(timings, texts)
		for i := range texts {
			cost := math.Exp(random.NormFloat64())
			for range rounds {
				noise := func() float64 {
					x := cost * (1 + .1*random.Float64())
					if random.IntN(50) == 0 {
						x += 100 // the machine was busy
					}
					return x
				}
				own[i], other[i] = append(own[i], factor*noise()), append(other[i], noise())
			}
		}
		for name, m := range ratios(own, other) {
			if m.Value < .95*factor || m.Value > 1.05*factor || m.Low > m.Value || m.High < m.Value || m.N != texts {
				t.Errorf("%s of %v: %+v", name, factor, m)
			}
		}
	}
	if r := ratios(nil, nil); r != nil {
		t.Errorf("%v", r)
	}
}

// A run beside the version in production has all that a gate asks for.
func TestRunBesideProduction(t *testing.T) {
	rows, good, poor := fixture(100)
	r, err := Run(t.Context(), good, sequence(rows, nil), good.labels, Options{
		Latency: 20, SizeBytes: 10,
		Baselines: []Contender{{Name: "news@1", Predictor: poor, Version: &Contestant{Model: "sha256:1", SizeBytes: 20}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	prod, ok := r.Beside("sha256:1")
	if _, other := r.Beside(""); !ok || other {
		t.Fatalf("%+v", r.Baselines)
	}
	if len(r.Gate.Checks) != 0 || prod.SizeBytes != 20 || r.Resources.SizeBytes != 10 || prod.LatencyMS.N < 20*leastRounds || r.LatencyMS.N != prod.LatencyMS.N || len(prod.Ratios) != 2 {
		t.Errorf("%+v", prod)
	}
	// poor always says culture: good differs from it where it is right about sports.
	alike := 0
	for _, row := range rows {
		if good.answers[row.Text] == poor.answers[row.Text] {
			alike++
		}
	}
	if r.Metrics[Agreement] != Wilson(alike, 100) || prod.Agreement != r.Metrics[Agreement] {
		t.Errorf("agreement %+v", r.Metrics[Agreement])
	}
	var byLanguage, byLength Pairing
	for i, s := range prod.Slices {
		if s.Name != r.Slices[i].Name || s.N != r.Slices[i].N || s.Pairing.N != s.N {
			t.Errorf("slice %+v beside %+v", s, r.Slices[i])
		}
		at := &byLanguage
		if strings.HasPrefix(s.Name, "length=") {
			at = &byLength
		}
		*at = Pairing{at.N + s.Pairing.N, at.OnlyA + s.Pairing.OnlyA, at.OnlyB + s.Pairing.OnlyB}
	}
	if byLanguage != prod.Pairing || byLength != prod.Pairing {
		t.Errorf("%+v and %+v make up %+v", byLanguage, byLength, prod.Pairing)
	}
	if v := DefaultGate().Judge(r, &prod); len(v.Checks) != 5 || !v.Checks[0].Passed {
		t.Errorf("%+v", v)
	}
	if fmt.Sprint(r.Metrics[ECE].Method) == "" || r.Metrics[ECE].N != 100 {
		t.Errorf("%+v", r.Metrics[ECE])
	}
}

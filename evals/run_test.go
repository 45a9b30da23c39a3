package evals

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"galley"
	"galley/dataset"
)

// table is a predictor that answers from a map and counts its calls.
type table struct {
	labels  []string
	answers map[string]string
	calls   []int // texts per call
	short   bool  // gives one answer too few
}

func (p *table) Predict(_ context.Context, texts []string) ([]Prediction, error) {
	p.calls = append(p.calls, len(texts))
	var out []Prediction
	for _, text := range texts {
		for i, label := range p.labels {
			if p.answers[text] == label {
				out = append(out, Prediction{Scores: onehot(len(p.labels), i, .9), Truncated: strings.HasPrefix(text, "long")})
			}
		}
	}
	if p.short {
		out = out[1:]
	}
	return out, nil
}

func sequence(rows []dataset.Row, err error) func(func(dataset.Row, error) bool) {
	return func(yield func(dataset.Row, error) bool) {
		for _, row := range rows {
			if !yield(row, nil) {
				return
			}
		}
		if err != nil {
			yield(dataset.Row{}, err)
		}
	}
}

func fixture(n int) ([]dataset.Row, *table, *table) {
	labels := []string{"culture", "sports"}
	good := &table{labels: labels, answers: map[string]string{}}
	poor := &table{labels: labels, answers: map[string]string{}}
	var rows []dataset.Row
	for i := range n {
		row := dataset.Row{Text: fmt.Sprintf("text %d", i), Label: labels[i%2], Language: []string{"en", "zh"}[i/2%2]}
		if i%10 == 0 {
			row.Text = "long " + row.Text
		}
		rows = append(rows, row)
		good.answers[row.Text] = row.Label
		poor.answers[row.Text] = labels[0]
		if i%5 == 3 {
			good.answers[row.Text] = labels[0]
		}
	}
	return rows, good, poor
}

func TestRun(t *testing.T) {
	rows, good, poor := fixture(150)
	var observed, done int
	r, err := Run(t.Context(), good, sequence(rows, nil), good.labels, Options{
		Latency: 20, PerCPUHour: .5,
		Baselines: []Contender{{Name: "always culture", Predictor: poor}},
		Progress:  func(n int) { done = n },
		Observe: func(row, gold, predicted int) {
			if row != observed || gold != row%2 {
				t.Errorf("row %d is observed as %d with label %d", observed, row, gold)
			}
			observed++
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	wrong := 0
	for i := range rows {
		if i%5 == 3 && i%2 == 1 {
			wrong++
		}
	}
	near(t, "accuracy", r.Metrics[Accuracy].Value, 1-float64(wrong)/150, 1e-12)
	if r.N != 150 || observed != 150 || done != 150 || r.Truncated != 15 {
		t.Errorf("n %d, observed %d, done %d, truncated %d", r.N, observed, done, r.Truncated)
	}
	if want := fmt.Sprint([]int{64, 64, 22}); fmt.Sprint(good.calls[:3]) != want {
		t.Errorf("batches %v, want %v", good.calls[:3], want)
	}
	if r.LatencyMS.N != 20 || r.LatencyMS.P50 > r.LatencyMS.P99 || r.LatencyMS.P50 <= 0 {
		t.Errorf("latency %+v", r.LatencyMS)
	}
	if len(r.Slices) != 3 || r.Slices[0].Name != "language=en" || r.Slices[1].Name != "language=zh" || r.Slices[2].Name != "length=1-16" {
		t.Errorf("slices %+v", r.Slices)
	}
	b := r.Baselines[0]
	near(t, "baseline", b.Metrics[Accuracy].Value, .5, 1e-12)
	near(t, "difference", b.Difference.Value, .5-float64(wrong)/150, 1e-12)
	if b.Pairing != (Pairing{N: 150, OnlyA: 75 - wrong}) || !r.Gate.Passed || len(r.Gate.Checks) != 1 {
		t.Errorf("baseline %+v, gate %+v", b.Pairing, r.Gate)
	}
	x := r.Resources
	near(t, "cost", x.Cost.PerThousand, x.CPUSeconds/150*1000/3600*.5, 1e-12)
	if x.Energy == nil || (x.Energy.NotMeasured == "") == (x.Energy.Source == "") {
		t.Errorf("energy %+v", x.Energy)
	}
	if r.Resources.PeakBytes == 0 || r.Resources.RowsPerSecond <= 0 {
		t.Errorf("resources %+v", r.Resources)
	}
}

func TestRunFailsGateBelowBaseline(t *testing.T) {
	rows, good, poor := fixture(50)
	r, err := Run(t.Context(), poor, sequence(rows, nil), good.labels, Options{Latency: -1, Baselines: []Contender{{Name: "better", Predictor: good}}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Gate.Passed || r.Gate.Checks[0].Passed || r.LatencyMS.N != 0 {
		t.Errorf("gate %+v, latency %+v", r.Gate, r.LatencyMS)
	}
}

func TestRunRefuses(t *testing.T) {
	rows, good, _ := fixture(10)
	unknown := append(rows[:9:9], dataset.Row{Text: "x", Label: "weather"})
	short := *good
	short.short = true
	tests := map[string]struct {
		p      Predictor
		rows   []dataset.Row
		err    error
		labels []string
		o      Options
		code   galley.Code
		says   string
	}{
		"no rows":       {p: good, labels: good.labels, code: galley.FailedPrecondition, says: "no rows"},
		"unknown label": {p: good, rows: unknown, labels: good.labels, code: galley.InvalidArgument, says: `row 9: has the label "weather"`},
		"unknown label of a file": {p: good, rows: unknown, labels: good.labels, o: Options{Place: func() string { return "fresh.csv:11" }},
			code: galley.InvalidArgument, says: `fresh.csv:11: has the label "weather"`},
		"one label":         {p: good, rows: rows, labels: good.labels[:1], code: galley.InvalidArgument, says: "there are 1"},
		"no labels":         {p: good, rows: rows, code: galley.InvalidArgument, says: "there are 0"},
		"label twice":       {p: good, rows: rows, labels: []string{"a", "a"}, code: galley.InvalidArgument, says: "twice"},
		"too few answers":   {p: &short, rows: rows, labels: good.labels, code: galley.Internal, says: "9 answers to 10 texts"},
		"too few scores":    {p: good, rows: rows, labels: append(good.labels, "more"), code: galley.InvalidArgument, says: "2 scores for 3 labels"},
		"unreadable rows":   {p: good, rows: rows, err: errors.New("disk"), labels: good.labels, code: galley.Unknown, says: "disk"},
		"batch too large":   {p: good, rows: rows, labels: good.labels, o: Options{Batch: 1 << 20}, code: galley.OutOfRange, says: "batch"},
		"no price":          {p: good, rows: rows, labels: good.labels, o: Options{PerCPUHour: math.NaN()}, code: galley.OutOfRange, says: "price"},
		"negative price":    {p: good, rows: rows, labels: good.labels, o: Options{PerCPUHour: -1}, code: galley.OutOfRange, says: "price"},
		"latency too large": {p: good, rows: rows, labels: good.labels, o: Options{Latency: 1 << 20}, code: galley.OutOfRange, says: "latency"},
	}
	for name, tt := range tests {
		_, err := Run(t.Context(), tt.p, sequence(tt.rows, tt.err), tt.labels, tt.o)
		if galley.CodeOf(err) != tt.code || !strings.Contains(fmt.Sprint(err), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReportRoundTrip(t *testing.T) {
	rows, good, poor := fixture(30)
	r, err := Run(t.Context(), good, sequence(rows, nil), good.labels, Options{Baselines: []Contender{{Name: "b", Predictor: poor}}})
	if err != nil {
		t.Fatal(err)
	}
	r.Ref, r.Dataset = "news@1", Data{Name: "news", Version: 2, Split: "test"}
	first, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeReport(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	if second, _ := back.Encode(); !bytes.Equal(first, second) {
		t.Errorf("encoded again:\n%s\n%s", first, second)
	}
	var fields map[string]any
	if err := json.Unmarshal(first, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ref", "n", "metrics", "slices", "latency_ms", "resources", "gate", "dataset", "baselines", "truncated"} {
		if _, ok := fields[name]; !ok {
			t.Errorf("the report has no field %q", name)
		}
	}
	accuracy := fields["metrics"].(map[string]any)["accuracy"].(map[string]any)
	for _, name := range []string{"value", "low", "high", "method", "n"} {
		if _, ok := accuracy[name]; !ok {
			t.Errorf("the metric has no field %q", name)
		}
	}
	for within, names := range map[string][]string{"latency_ms": {"p50", "p99"}, "gate": {"passed", "checks"}} {
		for _, name := range names {
			if _, ok := fields[within].(map[string]any)[name]; !ok {
				t.Errorf("%s has no field %q", within, name)
			}
		}
	}
	if _, err := DecodeReport(strings.NewReader("{")); galley.CodeOf(err) != galley.InvalidArgument {
		t.Errorf("broken report: %v", err)
	}
}

func TestReservoirIsEven(t *testing.T) {
	r := newReservoir[string](100, 1)
	for i := range 10_000 {
		r.offer(fmt.Sprint(i))
	}
	below := 0
	for _, text := range r.kept {
		if len(text) < 4 || text < "5000" {
			below++
		}
	}
	if len(r.kept) != 100 || below < 30 || below > 70 {
		t.Errorf("%d texts, %d of them from the first half", len(r.kept), below)
	}
}

// Whatever is read as a report can be written and read again.
func FuzzDecodeReport(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"ref":"news@1","n":2,"metrics":{"accuracy":{"value":0.5,"low":0.1,"high":0.9,"method":"wilson","n":2}},"gate":{"passed":true,"checks":[]}}`))
	f.Add([]byte(`{"confusion":{"labels":["a","b"],"counts":[[1,0],[0,1]]},"baselines":[{"name":"b","difference":{"value":1e308}}]}`))
	f.Add([]byte(`{"n":`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := DecodeReport(bytes.NewReader(data))
		if err != nil {
			return
		}
		first, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeReport(bytes.NewReader(first))
		if err != nil {
			t.Fatal(err)
		}
		if second, err := again.Encode(); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%s\n%s\n%v", first, second, err)
		}
	})
}

// Ten times the rows need no more memory.
func TestMemoryDoesNotGrowWithRows(t *testing.T) {
	if testing.Short() {
		t.Skip("collects garbage many times")
	}
	_, good, _ := fixture(100)
	heap := func(n int) (top uint64) {
		rows := func(yield func(dataset.Row, error) bool) {
			for i := range n {
				text := fmt.Sprintf("text %d", i%100/10*10+1)
				if !yield(dataset.Row{Text: text, Label: good.labels[i%2], Language: "en"}, nil) {
					return
				}
			}
		}
		var m runtime.MemStats
		progress := func(done int) {
			if done%(n/10) < 64 {
				runtime.GC()
				runtime.ReadMemStats(&m)
				top = max(top, m.HeapAlloc)
			}
		}
		p := constant{Scores: []float32{.6, .4}}
		if _, err := Run(t.Context(), p, rows, good.labels, Options{Progress: progress, Robustness: true}); err != nil {
			t.Fatal(err)
		}
		return top
	}
	heap(1000)
	if few, many := heap(10_000), heap(100_000); float64(many) > 1.1*float64(few)+100_000 {
		t.Errorf("%d bytes for 10,000 rows, %d for ten times as many", few, many)
	}
}

// constant gives every text the same answer.
type constant Prediction

func (p constant) Predict(_ context.Context, texts []string) ([]Prediction, error) {
	return slices.Repeat([]Prediction{Prediction(p)}, len(texts)), nil
}

package evals

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"galley/dataset"
)

// shouter takes texts with a capital for sports, others for culture.
type shouter struct{}

func (shouter) Predict(_ context.Context, texts []string) ([]Prediction, error) {
	var out []Prediction
	for _, text := range texts {
		i := 0
		if strings.ToLower(text) != text {
			i = 1
		}
		out = append(out, Prediction{Scores: onehot(2, i, .9)})
	}
	return out, nil
}

func TestRobustness(t *testing.T) {
	labels := []string{"culture", "sports"}
	var rows []dataset.Row
	for i := range 100 {
		rows = append(rows, dataset.Row{Text: fmt.Sprintf("a new play number %d", i), Label: "culture"})
	}
	for range 60 {
		rows = append(rows, dataset.Row{Text: "Goal", Label: "sports"})
	}
	for range 40 {
		rows = append(rows, dataset.Row{Text: "央行維持利率", Label: "culture"})
	}
	run := func(seed uint32) (*Report, map[string]Perturbed) {
		r, err := Run(t.Context(), shouter{}, sequence(rows, nil), labels, Options{Latency: -1, Robustness: true, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		by := map[string]Perturbed{}
		for _, p := range r.Robustness.Perturbations {
			by[p.Name] = p
		}
		return r, by
	}
	r, by := run(5)
	if r.Metrics[Accuracy].Value != 1 || len(by) != 9 || r.Robustness.Seed != 5 {
		t.Fatalf("%+v", r.Robustness)
	}
	for name, want := range map[string]struct {
		n            int
		right        float64
		drop, change float64
	}{
		"case.lower":          {60, 0, 1, 1}, // the goals
		"case.upper":          {160, .375, .625, .625},
		"case.title":          {100, 0, 1, 1}, // the plays
		"typos.swap":          {200, 1, 0, 0},
		"chinese.simplified":  {40, 1, 0, 0},
		"chinese.traditional": {0, 0, 0, 0},
		"numbers":             {100, 1, 0, 0},
	} {
		p := by[name]
		if p.N != want.n || p.Accuracy.Value != want.right || p.Drop.Value != want.drop || p.Changed.Value != want.change || p.Drop.N != want.n {
			t.Errorf("%s: %+v, want %+v", name, p, want)
		}
		if p.N > 0 && (p.Clean.Value != 1 || p.Drop.Low > p.Drop.Value || p.Drop.High < p.Drop.Value || p.Accuracy.Low > p.Accuracy.Value) {
			t.Errorf("%s: %+v", name, p)
		}
	}
	again, _ := run(5)
	if fmt.Sprint(again.Robustness.Perturbations) != fmt.Sprint(r.Robustness.Perturbations) {
		t.Error("the same seed gives other answers")
	}
	plain, err := Run(t.Context(), shouter{}, sequence(rows, nil), labels, Options{Latency: -1})
	if err != nil || plain.Robustness != nil {
		t.Errorf("%+v %v", plain.Robustness, err)
	}
}

// TestRobustnessBeside: a version answers the same changed texts, and is compared
// on them. Other baselines are not asked.
func TestRobustnessBeside(t *testing.T) {
	labels := []string{"culture", "sports"}
	var rows []dataset.Row
	for i := range 30 {
		rows = append(rows, dataset.Row{Text: fmt.Sprintf("a new play number %d", i), Label: "culture"}, dataset.Row{Text: "Goal", Label: "sports"})
	}
	r, err := Run(t.Context(), shouter{}, sequence(rows, nil), labels, Options{Latency: -1, Batch: 7, Robustness: true, Seed: 5, Baselines: []Contender{
		{Name: "words", Predictor: steadfast{}},
		{Name: "a@1", Predictor: steadfast{}, Version: &Contestant{Model: "steady"}},
		{Name: "a@2", Predictor: shouter{}, Version: &Contestant{Model: "shouting"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Baselines[0].Robustness != nil {
		t.Errorf("%+v", r.Baselines[0].Robustness)
	}
	other, _ := r.Beside("steady")
	same, _ := r.Beside("shouting")
	if len(other.Robustness) != 9 || len(same.Robustness) != 9 {
		t.Fatalf("%d and %d", len(other.Robustness), len(same.Robustness))
	}
	for k, own := range r.Robustness.Perturbations {
		x := other.Robustness[k]
		if x.Name != own.Name || x.N != own.N || x.Changed.Value != 0 && x.Name[:4] == "case" || x.Drop.Value != 0 && x.Name[:4] == "case" {
			t.Errorf("%s: %+v", own.Name, x)
		}
		if want := own.Accuracy.Value - x.Accuracy.Value; x.N > 0 && (math.Abs(x.Difference.Value-want) > 1e-12 || x.Difference.N != x.N) {
			t.Errorf("%s: the difference is %+v, not %v", own.Name, x.Difference, want)
		}
		if y := same.Robustness[k]; y.Perturbed != own || y.Difference.Value != 0 {
			t.Errorf("%s: %+v beside itself", own.Name, y)
		}
	}
	if x := other.Robustness[slices.IndexFunc(other.Robustness, func(p PerturbedBeside) bool { return p.Name == "case.lower" })]; x.Difference.Value != -1 || x.Accuracy.Value != 1 {
		t.Errorf("%+v", x)
	}
}

// steadfast takes texts without spaces for sports, whatever their casing.
type steadfast struct{}

func (steadfast) Predict(_ context.Context, texts []string) ([]Prediction, error) {
	var out []Prediction
	for _, text := range texts {
		i := 0
		if !strings.Contains(text, " ") {
			i = 1
		}
		out = append(out, Prediction{Scores: onehot(2, i, .9)})
	}
	return out, nil
}

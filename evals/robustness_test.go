package evals

import (
	"context"
	"fmt"
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

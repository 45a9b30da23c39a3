package onnx

import (
	"context"
	"maps"
	"os"
	"testing"

	"galley/dataset"
	graph "galley/onnx"
	"galley/trainer"
	"galley/trainer/checkpoint"
	"galley/trainer/engine"
)

// scripted is a problem whose validations score what the test says.
type scripted struct {
	scores []float64
	done   int
}

func (s *scripted) validate(context.Context, *evaluator, func(func([]example, error) bool)) (map[string]float64, float64, error) {
	score := s.scores[s.done]
	s.done++
	return map[string]float64{"accuracy": score}, score, nil
}

func (s *scripted) remember() map[string]float64 { return map[string]float64{"at": float64(s.done)} }

func (*scripted) models() (training, validation *graph.Model, err error) { panic("not asked for") }
func (*scripted) encode(dataset.Row) (example, int, error)               { panic("not asked for") }
func (*scripted) feeds([][]example, draws) ([]feed, error)               { panic("not asked for") }
func (*scripted) recall(map[string]float64)                              { panic("not asked for") }
func (*scripted) bundle() (*graph.Model, error)                          { panic("not asked for") }

// noRows is a split without rows.
type noRows struct{}

func (noRows) Len() int                    { return 0 }
func (noRows) At(int) (dataset.Row, error) { panic("there is no row") }

// TestEarlyStop holds that a validation as good as the best is no gain, that
// a gain begins the count anew, and that the first of equals is kept.
func TestEarlyStop(t *testing.T) {
	for _, c := range []struct {
		name          string
		scores        []float64
		patience      int
		stopped, best int // validations, from 1
	}{
		{"ties are no gain", []float64{0.8, 0.8, 0.8, 0.9}, 2, 3, 1},
		{"worse ones neither", []float64{0.8, 0.7, 0.6, 0.9}, 2, 3, 1},
		{"a gain begins anew", []float64{0.7, 0.6, 0.8, 0.8, 0.7}, 2, 5, 3},
		{"never, if not asked to", []float64{0.7, 0.6, 0.6, 0.6}, 0, 0, 1},
		{"a first score of zero is a best", []float64{0, 0, 0}, 2, 3, 1},
		{"and a negative one", []float64{-3, -2, -4, -2}, 2, 4, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			train, err := dataset.NewLoader(noRows{}, dataset.LoaderOptions[example]{Encode: (*scripted)(nil).encode, BatchSize: 1})
			if err != nil {
				t.Fatal(err)
			}
			r := &trial{
				request: engine.Request{Spec: trainer.Spec{Recipe: trainer.Recipe{EarlyStop: c.patience, Accumulate: 1}}, WorkDir: t.TempDir()},
				problem: &scripted{scores: c.scores},
				train:   train,
				learner: &learner{params: &parameters{weights: make([]float32, 4)}},
				report:  func(engine.Event) {},
			}
			if err := os.MkdirAll(r.checkpoints(), 0o755); err != nil {
				t.Fatal(err)
			}
			stopped := 0
			for i := range c.scores {
				r.state.Step = 10 * (i + 1)
				r.learner.params.weights[0] = float32(i + 1)
				if err := r.validate(t.Context()); err != nil {
					t.Fatal(err)
				}
				if r.state.Stopped {
					stopped = i + 1
					break
				}
			}
			if stopped != c.stopped || r.state.BestStep != 10*c.best {
				t.Errorf("stopped at validation %d, the best is step %d; want %d and %d", stopped, r.state.BestStep, c.stopped, 10*c.best)
			}
			kept := make([]float32, 4)
			state, err := checkpoint.Read(r.checkpoints(), bestName(10*c.best), checkpoint.Section{Name: "weights", Values: kept})
			if err != nil {
				t.Fatal(err)
			}
			if kept[0] != float32(c.best) || !maps.Equal(state.Beside, map[string]float64{"at": float64(c.best)}) {
				t.Errorf("kept are the weights of validation %v beside %v, want %d", kept[0], state.Beside, c.best)
			}
		})
	}
}

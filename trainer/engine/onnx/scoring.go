package onnx

import (
	"math"

	"galley"
	"galley/evals"
	"galley/task"
)

// A scoring counts a classifier's answers on the validation split. The rows
// that the blend is fitted on are held back until there are enough of them;
// the rest are counted as they come, so that memory does not grow with the
// split. A split with more rows than that comes in an order of its own: the
// first are a sample.
type scoring struct {
	result *evals.Classification
	blend  blend
	most   int // rows to fit the blend on; 0 once it is, or if nothing is to be fitted
	labels []int
	spoken []string // languages of the held rows
	held   [][]float32
	row    []float32 // the blended logits of a row
	scores []float32
}

// Most rows, and most logits of a branch, that a blend of two numbers is
// fitted on: more would tell no more.
const (
	maxBlendRows   = 20_000
	maxBlendLogits = 1 << 22
)

// mostBlendRows is the most rows of so many classes that a blend is fitted on.
func mostBlendRows(classes int) int {
	return max(1, min(maxBlendRows, maxBlendLogits/max(classes, 1)))
}

func newScoring(labels []string, branches int) *scoring {
	s := &scoring{
		result: evals.NewClassification(labels), blend: evenBlend,
		held: make([][]float32, branches), row: make([]float32, len(labels)), scores: make([]float32, len(labels)),
	}
	if branches > 1 {
		s.most = mostBlendRows(len(labels))
	}
	return s
}

// add takes a batch's logits [batch,classes], one slice a branch.
func (s *scoring) add(batch []example, logits [][]float32) error {
	classes := len(s.scores)
	if s.most == 0 {
		for i, e := range batch {
			if err := s.count(e.label, e.language, logits, i*classes); err != nil {
				return err
			}
		}
		return nil
	}
	n := min(len(batch), s.most-len(s.labels))
	for i, branch := range logits {
		s.held[i] = append(s.held[i], branch[:n*classes]...)
	}
	for _, e := range batch[:n] {
		s.labels, s.spoken = append(s.labels, e.label), append(s.spoken, e.language)
	}
	if len(s.labels) < s.most {
		return nil
	}
	if err := s.fit(); err != nil {
		return err
	}
	rest := make([][]float32, len(logits))
	for i, branch := range logits {
		rest[i] = branch[n*classes:]
	}
	return s.add(batch[n:], rest)
}

// fit settles the blend and counts the held rows.
func (s *scoring) fit() error {
	s.blend, s.most = fitBlend(s.held[0], s.held[1], s.labels), 0
	for i, label := range s.labels {
		if err := s.count(label, s.spoken[i], s.held, i*len(s.scores)); err != nil {
			return err
		}
	}
	s.labels, s.spoken, s.held = nil, nil, nil
	return nil
}

// count adds the row whose logits begin at the given place of each branch.
func (s *scoring) count(label int, language string, logits [][]float32, at int) error {
	copy(s.row, logits[0][at:])
	if len(logits) == 2 {
		for i, beside := range logits[1][at : at+len(s.row)] {
			s.row[i] = float32(s.blend.Encoder)*s.row[i] + float32(s.blend.NGrams)*beside
		}
	}
	if _, ok := task.Softmax(s.scores, s.row); !ok {
		return galley.Errorf(galley.OutOfRange, "validation", "an answer of the model is not finite").
			WithRemedy("lower recipe.optimizer.lr or set recipe.clip_norm; the last good checkpoint is kept")
	}
	return s.result.Add(label, s.scores, language, 0)
}

// finish returns the metrics, and the score of a step: the answers that are
// right; of steps with as many, the one with the lower loss is better.
func (s *scoring) finish() (map[string]float64, float64, error) {
	if len(s.labels) > 0 {
		if err := s.fit(); err != nil {
			return nil, 0, err
		}
	}
	metrics := s.result.Values()
	right := math.Round(metrics[evals.Accuracy] * float64(s.result.N()))
	return metrics, right + 1/(1+metrics[evals.Loss]), nil
}

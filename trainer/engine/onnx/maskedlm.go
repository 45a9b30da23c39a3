package onnx

import (
	"context"
	"math"

	"galley"
	"galley/dataset"
	"galley/feature/text"
	graph "galley/onnx"
	"galley/onnx/session"
	"galley/task"
	"galley/trainer"
	"galley/trainer/architecture"
	"galley/trainer/objective"
)

// maskedLM trains text-mlm: tokens are hidden and guessed (Devlin et al.,
// 2019).
type maskedLM struct {
	encoder   architecture.TextEncoder
	parent    *graph.Model // weights to begin with; nil for fresh ones
	tokenizer *text.Tokenizer
	masker    *task.Masker
	recipe    trainer.Recipe
}

func (m *maskedLM) models() (training, validation *graph.Model, err error) {
	g, err := m.encoder.MaskedLM(true, m.recipe.Seed)
	if err != nil {
		return nil, nil, err
	}
	if m.parent != nil {
		inherit(g, m.parent, false)
	}
	training, err = objective.MaskedLM(g)
	return training, training, err
}

func (m *maskedLM) bundle() (*graph.Model, error) {
	g, err := m.encoder.MaskedLM(false, m.recipe.Seed)
	if err != nil {
		return nil, err
	}
	return g, remember(g, m.encoder)
}

func (m *maskedLM) remember() map[string]float64 { return nil }
func (m *maskedLM) recall(map[string]float64)    {}

func (m *maskedLM) encode(row dataset.Row) (example, int, error) {
	ids, info := m.tokenizer.Encode(nil, row.Text, m.encoder.MaxLength)
	return example{ids: ids, language: row.Language, truncated: info.Truncated}, len(ids), nil
}

func (m *maskedLM) feeds(batches [][]example, draw draws) ([]feed, error) {
	feeds := make([]feed, len(batches))
	var targets [][]int64
	total := 0
	for i, batch := range batches {
		f, t, err := m.mask(batch, draw.stream(i))
		if err != nil {
			return nil, err
		}
		feeds[i] = f
		targets = append(targets, t)
		total += len(t)
	}
	for i := range feeds {
		if err := feedTargets(&feeds[i], targets[i], total); err != nil {
			return nil, err
		}
	}
	return feeds, nil
}

// mask hides tokens of a batch and returns what they were.
func (m *maskedLM) mask(batch []example, stream uint64) (feed, []int64, error) {
	hidden := make([]example, len(batch))
	length := 0
	for _, e := range batch {
		length = max(length, len(e.ids))
	}
	var positions, targets []int64
	for i := range hidden {
		masked := m.masker.Mask(batch[i].ids, int(stream), i)
		hidden[i].ids = masked.IDs
		for j, p := range masked.Positions {
			positions = append(positions, int64(i*length)+int64(p))
			targets = append(targets, int64(masked.Targets[j]))
		}
	}
	f, err := pad(hidden, m.tokenizer.Special(), task.DefaultInputs, 0, nil)
	if err != nil {
		return f, nil, err
	}
	f.stream = stream
	f.symbols["masked"] = int64(len(positions))
	t, err := session.New(positions, int64(len(positions)))
	if err != nil {
		return f, nil, err
	}
	f.inputs[architecture.Positions] = t
	return f, targets, nil
}

// feedTargets adds the guesses' truths, each weighing 1/total.
func feedTargets(f *feed, targets []int64, total int) error {
	weights := make([]float32, len(targets))
	for i := range weights {
		weights[i] = float32(1 / float64(total))
	}
	t, err := session.New(targets, int64(len(targets)))
	if err != nil {
		return err
	}
	w, err := session.New(weights, int64(len(weights)))
	if err != nil {
		return err
	}
	f.inputs[objective.Targets], f.inputs[objective.Weights] = t, w
	return nil
}

// validate hides the same tokens each time and scores by the loss.
func (m *maskedLM) validate(ctx context.Context, e *evaluator, batches func(yield func([]example, error) bool)) (map[string]float64, float64, error) {
	loss, correct, n := 0.0, 0, 0
	number := uint64(0)
	for batch, err := range batches {
		if err != nil {
			return nil, 0, err
		}
		f, targets, err := m.mask(batch, validationStream+number)
		number++
		if err != nil {
			return nil, 0, err
		}
		if len(targets) == 0 {
			continue
		}
		if err := feedTargets(&f, targets, len(targets)); err != nil {
			return nil, 0, err
		}
		if err := e.run(ctx, f); err != nil {
			return nil, 0, err
		}
		logits, err := e.output(architecture.TokenLogits)
		if err != nil {
			return nil, 0, err
		}
		width := m.encoder.Vocabulary
		for i, target := range targets {
			nll, hit := guess(logits[i*width:(i+1)*width], int(target))
			loss += nll
			n++
			if hit {
				correct++
			}
		}
	}
	if n == 0 {
		return map[string]float64{}, 0, nil
	}
	loss /= float64(n)
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return nil, 0, galley.Errorf(galley.OutOfRange, "validation", "the loss is %v", loss).
			WithRemedy("lower recipe.optimizer.lr or set recipe.clip_norm; the last good checkpoint is kept")
	}
	metrics := map[string]float64{
		"loss": loss, "accuracy": float64(correct) / float64(n),
		"perplexity": math.Min(math.Exp(loss), math.MaxFloat64), // an infinity is no JSON
	}
	return metrics, -loss, nil
}

// validationStream keeps the masks of validation apart from those of training
// steps.
const validationStream = 1 << 44

// guess returns the negative log-likelihood of target and whether it is the
// most likely token.
func guess(logits []float32, target int) (nll float64, hit bool) {
	best := 0
	for i, x := range logits {
		if x > logits[best] {
			best = i
		}
	}
	most, sum := float64(logits[best]), 0.0
	for _, x := range logits {
		sum += math.Exp(float64(x) - most)
	}
	return most + math.Log(sum) - float64(logits[target]), best == target
}

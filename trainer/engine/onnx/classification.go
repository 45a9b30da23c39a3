package onnx

import (
	"context"
	"math"

	"galley"
	"galley/dataset"
	"galley/evals"
	"galley/feature/text"
	graph "galley/onnx"
	"galley/onnx/session"
	"galley/task"
	"galley/trainer"
	"galley/trainer/architecture"
	"galley/trainer/objective"
)

// classification trains text-classification.
type classification struct {
	model     *graph.Model
	in        task.Inputs
	tokenizer *text.Tokenizer
	length    int // most tokens
	labels    []string
	index     map[string]int
	classes   objective.Classes
	recipe    trainer.Recipe
}

func newClassification(m *graph.Model, in task.Inputs, tokenizer *text.Tokenizer, length int, data *dataset.Manifest, r trainer.Recipe) (*classification, error) {
	classes, err := objective.NewClasses(data.Labels, data.Splits[dataset.Train].Classes, r)
	if err != nil {
		return nil, err
	}
	c := &classification{
		model: m, in: in, tokenizer: tokenizer, length: length,
		labels: data.Labels, index: map[string]int{}, classes: classes, recipe: r,
	}
	for i, label := range data.Labels {
		c.index[label] = i
	}
	return c, nil
}

func (c *classification) models() (training, validation *graph.Model, err error) {
	training, err = objective.Classification(c.model, c.recipe.BranchLoss)
	return training, c.model, err
}

func (c *classification) bundle() (*graph.Model, error) { return c.model.Clone(), nil }

func (c *classification) encode(row dataset.Row) (example, int, error) {
	label, ok := c.index[row.Label]
	if !ok {
		return example{}, 0, galley.Errorf(galley.InvalidArgument, "data", "label %q is not in the set", row.Label)
	}
	ids, info := c.tokenizer.Encode(nil, row.Text, c.length)
	return example{ids: ids, label: label, language: row.Language, truncated: info.Truncated}, len(ids), nil
}

func (c *classification) feeds(batches [][]example, draw draws) ([]feed, error) {
	mass := 0.0
	labels := make([][]int, len(batches))
	for i, batch := range batches {
		for _, e := range batch {
			labels[i] = append(labels[i], e.label)
		}
		mass += c.classes.Mass(labels[i])
	}
	feeds := make([]feed, len(batches))
	for i, batch := range batches {
		f, err := pad(batch, c.tokenizer.Special(), c.in, c.recipe.TokenDropout, draw.rand(i))
		if err != nil {
			return nil, err
		}
		targets, err := session.Zeros[float32](int64(len(batch)), int64(len(c.labels)))
		if err != nil {
			return nil, err
		}
		c.classes.Fill(session.Data[float32](targets), labels[i], mass)
		f.inputs[objective.Targets] = targets
		f.stream = draw.stream(i)
		feeds[i] = f
	}
	return feeds, nil
}

// validate scores by accuracy; the loss settles ties.
func (c *classification) validate(ctx context.Context, e *evaluator, batches func(yield func([]example, error) bool)) (map[string]float64, float64, error) {
	result := evals.NewClassification(c.labels)
	scores := make([]float32, len(c.labels))
	for batch, err := range batches {
		if err != nil {
			return nil, 0, err
		}
		f, err := pad(batch, c.tokenizer.Special(), c.in, 0, nil)
		if err != nil {
			return nil, 0, err
		}
		out, err := e.run(ctx, f, architecture.Logits)
		if err != nil {
			return nil, 0, err
		}
		logits := session.Data[float32](out)
		for i, x := range batch {
			softmax(scores, logits[i*len(scores):(i+1)*len(scores)])
			if err := result.Add(x.label, scores, x.language, len(x.ids)); err != nil {
				return nil, 0, err
			}
		}
	}
	metrics := result.Values()
	return metrics, metrics["accuracy"] - metrics["loss"]/1000, nil
}

func softmax(dst, logits []float32) {
	most := math.Inf(-1)
	for _, x := range logits {
		most = math.Max(most, float64(x))
	}
	sum := 0.0
	for i, x := range logits {
		e := math.Exp(float64(x) - most)
		dst[i] = float32(e)
		sum += e
	}
	for i := range dst {
		dst[i] = float32(float64(dst[i]) / sum)
	}
}

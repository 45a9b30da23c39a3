package onnx

import (
	"context"

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
	blend     blend // of the last validation, or of the best once settled
	even      bool  // validation counts both branches alike, and fits no blend
}

func newClassification(m *graph.Model, in task.Inputs, tokenizer *text.Tokenizer, length int, data *dataset.Manifest, r trainer.Recipe) (*classification, error) {
	classes, err := objective.NewClasses(data.Labels, data.Splits[dataset.Train].Classes, r)
	if err != nil {
		return nil, err
	}
	c := &classification{
		model: m, in: in, tokenizer: tokenizer, length: length,
		labels: data.Labels, index: map[string]int{}, classes: classes, recipe: r, blend: evenBlend,
	}
	for i, label := range data.Labels {
		c.index[label] = i
	}
	return c, nil
}

func (c *classification) models() (training, validation *graph.Model, err error) {
	validation = c.model.Clone()
	if names := c.branches(); len(names) > 1 {
		shape := validation.Graph.Outputs[0].Shape
		validation.Graph.Outputs = nil
		for _, name := range names {
			validation.Graph.Outputs = append(validation.Graph.Outputs, graph.Value{Name: name, Type: graph.Float, Shape: shape})
		}
	}
	training, err = objective.Classification(c.model, c.recipe.BranchLoss)
	return training, validation, err
}

func (c *classification) bundle() (*graph.Model, error) {
	m := c.model.Clone()
	architecture.SetBlend(m, float32(c.blend.Encoder), float32(c.blend.NGrams))
	return m, nil
}

// remember and recall keep what the best step had beside its weights.
func (c *classification) remember() map[string]float64 {
	return map[string]float64{"blend.encoder": c.blend.Encoder, "blend.ngrams": c.blend.NGrams}
}

func (c *classification) recall(best map[string]float64) {
	c.blend = blend{best["blend.encoder"], best["blend.ngrams"]}
}

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

// branches are the outputs whose blend is the model's logits: one, if the
// model has no branches.
func (c *classification) branches() []string {
	if architecture.HasBranches(c.model) {
		return []string{architecture.EncoderLogits, architecture.NGramLogits}
	}
	return []string{architecture.Logits}
}

// validate blends the branches and scores by accuracy; the loss settles ties.
func (c *classification) validate(ctx context.Context, e *evaluator, batches func(yield func([]example, error) bool)) (map[string]float64, float64, error) {
	s := newScoring(c.labels, len(c.branches()))
	if c.even {
		s.most = 0
	}
	for batch, err := range batches {
		if err != nil {
			return nil, 0, err
		}
		f, err := pad(batch, c.tokenizer.Special(), c.in, 0, nil)
		if err != nil {
			return nil, 0, err
		}
		if err := e.run(ctx, f); err != nil {
			return nil, 0, err
		}
		var logits [][]float32
		for _, name := range c.branches() {
			branch, err := e.output(name)
			if err != nil {
				return nil, 0, err
			}
			logits = append(logits, branch)
		}
		if err := s.add(batch, logits); err != nil {
			return nil, 0, err
		}
	}
	metrics, score, err := s.finish()
	c.blend = s.blend
	return metrics, score, err
}

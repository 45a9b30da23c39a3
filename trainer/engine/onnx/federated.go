package onnx

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"galley"
	"galley/dataset"
	graph "galley/onnx"
	"galley/task"
	"galley/trainer"
	"galley/trainer/architecture"
	"galley/trainer/engine"
	"galley/trainer/objective"
)

// federated trains a part of a round. It trains the parent's own graph, not one
// that is built anew as other jobs' are: what is not exchanged stays to the bit,
// and its dropout is that which the model was built with. Branches count alike
// while it trains, as they do in all training.
type federated struct {
	*classification
	stored *graph.Model // the parent's, with the blend that it has
}

// bundle is the parent's graph: a partner fits no blend.
func (f *federated) bundle() (*graph.Model, error) { return f.stored.Clone(), nil }

// newFederated makes the problem of a partner's training, or of settling what
// partners trained, whose labels are the parent's.
func newFederated(r engine.Request, p *parent) (*federated, *task.Config, error) {
	if f := r.Federated; f != nil && !(f.Mu >= 0 && f.Mu <= maxMu) {
		return nil, nil, galley.Errorf(galley.InvalidArgument, "mu", "%g is out of range", f.Mu).WithRemedy("give a number from 0 to %d", int(maxMu))
	}
	if r.Spec.Task != trainer.TextClassification {
		return nil, nil, galley.Errorf(galley.InvalidArgument, "task", "%s models are not federated", galley.Clip(r.Spec.Task, 80)).
			WithRemedy("use task: text-classification")
	}
	if _, err := objective.Federated(p.model); err != nil {
		return nil, nil, err
	}
	if p.config.Outputs.Logits != architecture.Logits {
		return nil, nil, galley.Errorf(galley.InvalidArgument, "from", "has its logits in %q, not in %q", galley.Clip(p.config.Outputs.Logits, 80), architecture.Logits).
			WithRemedy("train a classifier from it first, with kind: Train, and federate that")
	}
	even := p.model.Clone()
	architecture.SetBlend(even, 1, 1)
	c, err := newClassification(even, p.config.Inputs, p.tokenizer, p.maxLength, r.Data, r.Spec.Recipe)
	if err != nil {
		return nil, nil, err
	}
	c.even = r.Federated != nil
	return &federated{c, p.model}, p.config, nil
}

// maxMu bounds the weight of a proximal term.
const maxMu = 1000.0

// parentsLabels is the manifest with the parent's labels in their order, which
// is that of its logits. A partner may lack rows of some; it may not have
// others.
func parentsLabels(data *dataset.Manifest, p *parent) (*dataset.Manifest, error) {
	if p == nil {
		return nil, galley.Errorf(galley.InvalidArgument, "from", "is missing").WithRemedy("a round begins with a model's weights")
	}
	if p.config == nil || p.config.Task != task.TextClassification {
		return nil, galley.Errorf(galley.InvalidArgument, "from", "is no classifier of galley's").
			WithRemedy("train a classifier from it first, with kind: Train, and federate that")
	}
	for _, label := range data.Labels {
		if !slices.Contains(p.labels, label) {
			return nil, galley.Errorf(galley.InvalidArgument, "data", "label %q is not one of the model's: %s", galley.Clip(label, 80), few(p.labels)).
				WithRemedy("leave its rows out, or give them a label that the model has")
		}
	}
	ours := *data
	ours.Labels = p.labels
	return &ours, nil
}

// few names the first labels of a model.
func few(labels []string) string {
	const most = 12
	text := ""
	for i, label := range labels[:min(len(labels), most)] {
		if i > 0 {
			text += ", "
		}
		text += galley.Clip(label, 80)
	}
	if more := len(labels) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// settle makes the version of what partners trained: their weights are in the
// parent's graph, and what is left to do is the blend, which is fitted on the
// coordinator's validation split, as after any training. Without such a split
// the parent's stays, and there are no metrics.
func (d Driver) settle(ctx context.Context, r engine.Request) (engine.Result, error) {
	var result engine.Result
	if r.Parent == "" {
		_, err := parentsLabels(r.Data, nil)
		return result, err
	}
	p, err := openParent(r.Parent)
	if err != nil {
		return result, err
	}
	if r.Data, err = parentsLabels(r.Data, p); err != nil {
		return result, err
	}
	f, config, err := newFederated(r, p)
	if err != nil {
		return result, err
	}
	m := f.stored
	if path, ok := r.Records[string(dataset.Valid)]; ok {
		if result.Metrics, err = d.blended(ctx, r, f, path); err != nil {
			return result, err
		}
		if result.Metrics != nil {
			if m, err = f.classification.bundle(); err != nil {
				return result, err
			}
		}
	}
	result.Bundle = filepath.Join(r.WorkDir, bundleFolder)
	if err := os.RemoveAll(result.Bundle); err != nil {
		return result, err
	}
	if err := os.MkdirAll(r.WorkDir, 0o755); err != nil {
		return result, err
	}
	return result, task.WriteBundle(result.Bundle, m, config, p.tokenizer)
}

// blended fits the blend on the rows of a record file, and returns the metrics
// of the whole; nil if there are no rows.
func (d Driver) blended(ctx context.Context, r engine.Request, f *federated, path string) (map[string]float64, error) {
	s := &splits{}
	defer s.close()
	rows, err := s.open(path)
	if err != nil || rows == nil {
		return nil, err
	}
	t := &trial{request: r, problem: f, splits: &splits{valid: rows}}
	if t.valid, err = t.validationLoader(); err != nil {
		return nil, err
	}
	_, validation, err := f.models()
	if err != nil {
		return nil, err
	}
	e, err := newEvaluator(ctx, d.Opener, validation, &parameters{}, max(1, r.Spec.Resources.CPUs))
	if err != nil {
		return nil, err
	}
	defer e.close()
	metrics, _, err := f.validate(ctx, e, t.validationBatches(ctx))
	return metrics, err
}

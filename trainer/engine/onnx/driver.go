// Package onnx is the training engine that differentiates a model's ONNX
// graph and runs forward, loss and backward as one graph in ONNX Runtime. The
// optimizer runs on the host, in place, over all weights at once.
package onnx

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"galley"
	"galley/dataset"
	"galley/onnx/session"
	"galley/task"
	"galley/trainer"
	"galley/trainer/architecture"
	"galley/trainer/engine"
)

// Driver is the engine; it runs graphs with Opener.
type Driver struct {
	Opener session.Opener
}

var _ engine.Driver = Driver{}

// Name is "onnx".
func (Driver) Name() string { return "onnx" }

// Version names the runtime.
func (d Driver) Version() string { return d.Opener.Runtime() }

// Train runs an attempt; see engine.Driver.
func (d Driver) Train(ctx context.Context, r engine.Request, report func(engine.Event)) (engine.Result, error) {
	if r.Spec.Kind == trainer.KindFederate {
		return d.settle(ctx, r)
	}
	if err := os.MkdirAll(filepath.Join(r.WorkDir, checkpointFolder), 0o755); err != nil {
		return engine.Result{}, err
	}
	splits, err := openSplits(ctx, r)
	if err != nil {
		return engine.Result{}, err
	}
	defer splits.close()
	t, err := d.newTrial(ctx, r, splits, report)
	if err != nil {
		return engine.Result{}, err
	}
	defer t.close()
	return t.run(ctx)
}

// newTrial puts together all that a run trains with.
func (d Driver) newTrial(ctx context.Context, r engine.Request, s *splits, report func(engine.Event)) (*trial, error) {
	var p *parent
	if r.Parent != "" {
		var err error
		if p, err = openParent(r.Parent); err != nil {
			return nil, err
		}
	}
	if r.Federated != nil {
		var err error
		if r.Data, err = parentsLabels(r.Data, p); err != nil {
			return nil, err
		}
	}
	tokenizer, err := tokenizerFor(ctx, r, p, s.train, report)
	if err != nil {
		return nil, err
	}
	var problem problem
	var config *task.Config
	if r.Federated != nil {
		problem, config, err = newFederated(r, p)
	} else {
		problem, config, err = newProblem(r, p, tokenizer, s.train)
	}
	if err != nil {
		return nil, err
	}
	if r.Spec.Kind == trainer.KindDistill {
		// Before there is a learner: teachers and student share the memory.
		if problem, err = d.distillation(ctx, r, s, problem, report); err != nil {
			return nil, err
		}
	}
	t := &trial{request: r, splits: s, problem: problem, config: config, tokenizer: tokenizer, report: report, spec: r.Spec.Digest()}
	training, validation, err := problem.models()
	if err != nil {
		t.close()
		return nil, err
	}
	threads := max(1, r.Spec.Resources.CPUs)
	tables := lookedUp(training)
	if t.learner, err = newLearner(ctx, d.Opener, training, r.Spec.Recipe, tables, threads); err != nil {
		t.close()
		return nil, err
	}
	if f := r.Federated; f != nil {
		t.spec = t.learner.params.begunWith(t.spec, f.Mu)
		t.learner.hold(f.Mu)
	}
	if t.evaluator, err = newEvaluator(ctx, d.Opener, validation, t.learner.params, threads); err != nil {
		t.close()
		return nil, err
	}
	if err := t.makeLoaders(); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func newProblem(r engine.Request, p *parent, tokenizer tokenizer, rows dataset.Rows) (problem, *task.Config, error) {
	config := &task.Config{Format: task.ConfigFormat, Task: task.Kind(r.Spec.Task)}
	switch config.Task {
	case task.TextClassification:
		m, in, length, err := classifier(r, p, tokenizer, rows)
		if err != nil {
			return nil, config, err
		}
		config.Labels, config.MaxLength = r.Data.Labels, length
		config.Inputs, config.Outputs = in, task.Outputs{Logits: architecture.Logits}
		c, err := newClassification(m, in, tokenizer, length, r.Data, r.Spec.Recipe)
		return c, config, err
	case task.TextMLM:
		m, err := newMaskedLM(r, p, tokenizer)
		if err != nil {
			return nil, config, err
		}
		config.MaxLength = m.encoder.MaxLength
		config.Inputs, config.Outputs = task.DefaultInputs, task.Outputs{Logits: architecture.TokenLogits}
		return m, config, nil
	default:
		return nil, config, galley.Errorf(galley.Unimplemented, "task", "the onnx engine does not train %q", r.Spec.Task).
			WithRemedy("use text-classification or text-mlm")
	}
}

// splits are the record files of a job's dataset.
type splits struct {
	train dataset.Rows // labelled rows, then unlabelled ones
	valid dataset.Rows // nil if the dataset has none
	files []*dataset.Records

	labelled, unlabelled dataset.Rows // what train is made of; unlabelled may be nil
}

func openSplits(ctx context.Context, r engine.Request) (*splits, error) {
	s := &splits{}
	open := func(split string) (dataset.Rows, error) {
		path, ok := r.Records[split]
		if !ok {
			return nil, nil
		}
		return s.open(path)
	}
	var err error
	if s.train, err = open("train"); err == nil {
		s.valid, err = open("valid")
	}
	if err == nil && s.train == nil {
		err = galley.Errorf(galley.InvalidArgument, "data", "the training split has no rows").WithRemedy("add rows with `galley data add`")
	}
	if err == nil && r.Spec.Data.Fraction < 1 {
		s.train, err = dataset.NewSubset(ctx, s.train, r.Spec.Data.Fraction, r.Spec.Recipe.Seed)
	}
	s.labelled = s.train
	if err == nil && r.Unlabelled != nil {
		if s.unlabelled, err = s.open(r.Unlabelled.Path); s.unlabelled != nil {
			s.train = joined{s.labelled, s.unlabelled}
		}
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// open opens a record file; nil if it has no rows.
func (s *splits) open(path string) (dataset.Rows, error) {
	f, err := dataset.OpenRecordsFile(path)
	if err != nil {
		return nil, err
	}
	s.files = append(s.files, f)
	if f.Len() == 0 {
		return nil, nil
	}
	return f, nil
}

func (s *splits) close() {
	for _, f := range s.files {
		f.Close()
	}
}

// describe says what is trained, for the log.
func (t *trial) describe() string {
	n := 0
	for _, p := range t.learner.params.list {
		n += p.end - p.begin
	}
	return fmt.Sprintf("training %.2f million weights on %d rows, %d steps of %d rows, %d threads",
		float64(n)/1e6, t.splits.train.Len(), t.steps(), t.request.Spec.Recipe.BatchSize*t.request.Spec.Recipe.Accumulate, t.learner.threads)
}

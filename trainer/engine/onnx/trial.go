package onnx

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"galley"
	"galley/dataset"
	"galley/feature/text"
	"galley/task"
	"galley/trainer/checkpoint"
	"galley/trainer/engine"
)

const (
	checkpointFolder = "checkpoints"
	stepPrefix       = "step-"
	bestPrefix       = "best-"
	bundleFolder     = "bundle"
	// window is how many batches are sorted by length together.
	window = 16
	// validationOrder is the seed of the one order that many validation rows come
	// in: the first part of them is a sample, however the file is sorted.
	validationOrder = 1
	// reportEvery is how often a running attempt reports its progress.
	reportEvery = time.Second
)

type tokenizer = *text.Tokenizer

// A trial is one attempt under way.
type trial struct {
	request   engine.Request
	splits    *splits
	problem   problem
	config    *task.Config
	tokenizer tokenizer
	spec      galley.Digest // that checkpoints are of
	learner   *learner
	evaluator *evaluator
	train     *dataset.Loader[example]
	valid     *dataset.Loader[example] // nil without a validation split
	report    func(engine.Event)
	state     checkpoint.State
	truncated int
	window    progressWindow
}

// progressWindow sums up the steps since the last report.
type progressWindow struct {
	began time.Time
	loss  float64
	steps int
	rows  int
}

func (t *trial) close() {
	if t.learner != nil {
		t.learner.close()
	}
	if t.evaluator != nil {
		t.evaluator.close()
	}
	if p, ok := t.problem.(io.Closer); ok {
		_ = p.Close() // it was only read
	}
}

func (t *trial) makeLoaders() (err error) {
	r := t.request.Spec.Recipe
	t.train, err = dataset.NewLoader(t.splits.train, dataset.LoaderOptions[example]{
		Encode: t.problem.encode, BatchSize: r.BatchSize, Shuffle: true, Seed: r.Seed, BucketWindow: window, Prefetch: 4,
	})
	if err != nil || t.splits.valid == nil {
		return err
	}
	t.valid, err = t.validationLoader()
	return err
}

func (t *trial) validationLoader() (*dataset.Loader[example], error) {
	r := t.request.Spec.Recipe
	return dataset.NewLoader(t.splits.valid, dataset.LoaderOptions[example]{
		Encode: t.problem.encode, BatchSize: max(r.BatchSize, 32), BucketWindow: window,
		Shuffle: t.splits.valid.Len() > mostBlendRows(len(t.request.Data.Labels)), Seed: validationOrder,
	})
}

func (t *trial) stepsPerEpoch() int {
	return (t.train.BatchesPerEpoch() + t.request.Spec.Recipe.Accumulate - 1) / t.request.Spec.Recipe.Accumulate
}

func (t *trial) steps() int {
	r := t.request.Spec.Recipe
	n := r.Epochs * t.stepsPerEpoch()
	if r.MaxSteps > 0 {
		n = min(n, r.MaxSteps)
	}
	return n
}

// run goes on from the last checkpoint to the end and writes the bundle.
func (t *trial) run(ctx context.Context) (engine.Result, error) {
	if err := t.restore(); err != nil {
		return engine.Result{}, err
	}
	t.report(engine.Event{Kind: engine.Started, Step: t.state.Step, Steps: t.steps(), Epoch: t.state.Epoch, Message: t.describe()})
	// An attempt that was asked to end between a step and its validation left
	// the validation to this one: the choice of the best step must not depend
	// on when someone interrupted.
	if t.state.Pending {
		if err := t.settle(ctx); err != nil {
			return engine.Result{}, t.interrupted(ctx, err)
		}
		if err := t.save(); err != nil {
			return engine.Result{}, err
		}
	}
	for !t.done() {
		if err := t.epoch(ctx); err != nil {
			return engine.Result{}, err
		}
	}
	return t.publish(ctx)
}

func (t *trial) done() bool { return t.state.Stopped || t.state.Step >= t.steps() }

// epoch trains from the state's batch to the end of its epoch.
func (t *trial) epoch(ctx context.Context) error {
	accumulate := t.request.Spec.Recipe.Accumulate
	var group [][]example
	t.window = progressWindow{began: time.Now()}
	last := t.train.BatchesPerEpoch() - 1
	for batch, err := range t.train.Batches(ctx, t.state.Epoch, t.state.Batch) {
		if err != nil {
			return t.interrupted(ctx, err)
		}
		for i := range batch.Items {
			batch.Items[i].row = batch.Rows[i]
		}
		group = append(group, batch.Items)
		if len(group) < accumulate && batch.Index < last {
			continue
		}
		if err := t.step(ctx, group); err != nil {
			return t.interrupted(ctx, err)
		}
		group = group[:0]
		t.state.Batch = batch.Index + 1
		ended := batch.Index == last
		if ended {
			t.state.Epoch, t.state.Batch = t.state.Epoch+1, 0
		}
		if err := t.afterStep(ctx, ended); err != nil {
			return t.interrupted(ctx, err)
		}
		if t.done() {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return t.interrupted(ctx, err)
		}
	}
	return nil
}

// interrupted keeps the work done when someone asked the attempt to end: the
// weights are those after a whole step.
func (t *trial) interrupted(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	if saveErr := t.save(); saveErr != nil {
		return saveErr
	}
	return ctx.Err()
}

// step is one optimizer step on the batches of group.
func (t *trial) step(ctx context.Context, group [][]example) error {
	r := t.request.Spec.Recipe
	feeds, err := t.problem.feeds(group, draws{seed: r.Seed, step: t.state.Step})
	if err != nil {
		return err
	}
	rate := r.Optimizer.LR * r.Schedule.At(t.state.Step, t.steps())
	loss, norm, err := t.learner.step(ctx, feeds, r.Seed, rate, r.ClipNorm)
	if err != nil {
		return err
	}
	t.state.Step++
	t.window.loss += loss
	t.window.steps++
	for _, batch := range group {
		t.window.rows += len(batch)
		for _, e := range batch {
			if e.truncated && t.state.Epoch == 0 {
				t.truncated++
			}
		}
	}
	if since := time.Since(t.window.began); since >= reportEvery || t.done() {
		t.report(engine.Event{
			Kind: engine.Progress, Step: t.state.Step, Steps: t.steps(), Epoch: t.state.Epoch,
			Loss: t.window.loss / float64(t.window.steps), LR: rate, GradNorm: norm,
			Rows: int(float64(t.window.rows) / since.Seconds()),
		})
		t.window = progressWindow{began: time.Now()}
	}
	return nil
}

// afterStep validates and stores a checkpoint when it is time to.
func (t *trial) afterStep(ctx context.Context, epochEnded bool) error {
	r := t.request.Spec.Recipe
	last := t.state.Step >= t.steps()
	validates := epochEnded
	switch {
	case t.request.Federated != nil: // the last step is the result, and measured alone
		validates = false
	case r.ValidateEvery > 0:
		validates = t.state.Step%r.ValidateEvery == 0
	}
	if t.valid != nil && (validates || last) {
		t.state.Pending = true
		if err := t.settle(ctx); err != nil {
			return err
		}
	}
	if t.state.Step%r.CheckpointEvery == 0 || epochEnded || last || t.state.Stopped {
		return t.save()
	}
	return nil
}

// settle does the validation that is pending.
func (t *trial) settle(ctx context.Context) error {
	if err := t.validate(ctx); err != nil {
		return err
	}
	t.state.Pending = false
	return nil
}

// validate measures the weights on the validation split, and keeps them if
// they are the best so far.
func (t *trial) validate(ctx context.Context) error {
	metrics, score, err := t.problem.validate(ctx, t.evaluator, t.validationBatches(ctx))
	if err != nil {
		return err
	}
	t.report(engine.Event{Kind: engine.Validated, Step: t.state.Step, Steps: t.steps(), Epoch: t.state.Epoch, Metrics: metrics})
	t.window.began = time.Now()
	if t.state.BestStep > 0 && score <= t.state.Best {
		t.state.Stale++
		early := t.request.Spec.Recipe.EarlyStop
		if early > 0 && t.state.Stale >= early {
			t.state.Stopped = true
			t.report(engine.Event{Kind: engine.Note, Step: t.state.Step,
				Message: fmt.Sprintf("stopped early: %d validations without gain since step %d", t.state.Stale, t.state.BestStep)})
		}
		return nil
	}
	t.state.Best, t.state.BestStep, t.state.Stale = score, t.state.Step, 0
	t.state.Metrics, t.state.Beside = metrics, t.problem.remember()
	return checkpoint.Write(t.checkpoints(), bestName(t.state.Step), t.state, t.learner.params.best()...)
}

func (t *trial) validationBatches(ctx context.Context) func(yield func([]example, error) bool) {
	return func(yield func([]example, error) bool) {
		for batch, err := range t.valid.Batches(ctx, 0, 0) {
			if !yield(batch.Items, err) {
				return
			}
		}
	}
}

func (t *trial) checkpoints() string { return filepath.Join(t.request.WorkDir, checkpointFolder) }

func stepName(step int) string { return fmt.Sprintf("%s%09d", stepPrefix, step) }
func bestName(step int) string { return fmt.Sprintf("%s%09d", bestPrefix, step) }

// save stores a checkpoint, and removes those that it makes needless: the one
// before is kept, in case the disk loses the newest.
func (t *trial) save() error {
	t.state.Truncated = t.truncated
	before, err := checkpoint.List(t.checkpoints(), stepPrefix)
	if err != nil {
		return err
	}
	name := stepName(t.state.Step)
	if err := checkpoint.Write(t.checkpoints(), name, t.state, t.learner.params.sections()...); err != nil {
		return err
	}
	keep, best := []string{name}, []string{bestName(t.state.BestStep)}
	for i := len(before) - 1; i >= 0; i-- {
		if before[i] >= name {
			continue
		}
		if s, err := checkpoint.ReadState(t.checkpoints(), before[i]); err == nil {
			keep, best = append(keep, before[i]), append(best, bestName(s.BestStep))
			break
		}
	}
	if err := checkpoint.Prune(t.checkpoints(), stepPrefix, keep...); err != nil {
		return err
	}
	if err := checkpoint.Prune(t.checkpoints(), bestPrefix, best...); err != nil {
		return err
	}
	t.report(engine.Event{Kind: engine.Checkpointed, Step: t.state.Step, Steps: t.steps(), Epoch: t.state.Epoch})
	return nil
}

// restore takes up the newest checkpoint of this spec that is whole.
func (t *trial) restore() error {
	t.state = checkpoint.State{Spec: t.spec, Layout: t.learner.params.layout}
	names, err := checkpoint.List(t.checkpoints(), stepPrefix)
	if err != nil {
		return err
	}
	fresh := append([]float32(nil), t.learner.params.weights...)
	for i := len(names) - 1; i >= 0; i-- {
		state, err := checkpoint.Read(t.checkpoints(), names[i], t.learner.params.sections()...)
		if err == nil && (state.Spec != t.state.Spec || state.Layout != t.state.Layout) {
			err = fmt.Errorf("%s is of another spec or model", names[i])
		}
		if err == nil && state.BestStep > 0 { // without it the run could not be finished
			_, err = checkpoint.ReadState(t.checkpoints(), bestName(state.BestStep))
		}
		if err == nil {
			t.state, t.learner.steps, t.truncated = state, state.Step, state.Truncated
			return nil
		}
		t.report(engine.Event{Kind: engine.Note, Message: "checkpoint passed over: " + err.Error()})
		copy(t.learner.params.weights, fresh)
		clear(t.learner.params.m)
		clear(t.learner.params.v)
	}
	return nil
}

// publish writes the bundle of the best weights.
func (t *trial) publish(ctx context.Context) (engine.Result, error) {
	result := engine.Result{Steps: t.state.Step, BestStep: t.state.Step, Metrics: t.state.Metrics, Truncated: t.truncated}
	if t.state.BestStep > 0 {
		result.BestStep = t.state.BestStep
		t.problem.recall(t.state.Beside)
		if _, err := checkpoint.Read(t.checkpoints(), bestName(t.state.BestStep), t.learner.params.best()...); err != nil {
			return result, err
		}
	}
	m, err := t.problem.bundle()
	if err != nil {
		return result, err
	}
	if err := t.learner.params.store(m); err != nil {
		return result, err
	}
	result.Bundle = filepath.Join(t.request.WorkDir, bundleFolder)
	if err := os.RemoveAll(result.Bundle); err != nil {
		return result, err
	}
	return result, task.WriteBundle(result.Bundle, m, t.config, t.tokenizer)
}

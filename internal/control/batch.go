package control

import (
	"context"

	"galley"
	"galley/onnx/session"
	"galley/registry"
	"galley/task"
)

// maxBatches is how many batch predictions run at once; more are refused.
const maxBatches = 2

// A Batch is a version opened for batch prediction: in a session of its own,
// so that files do not queue before applications' requests. Each run has one
// thread, and as many run side by side as the machine has processors: nothing
// waits for the slowest part of a run, and an answer depends on nothing but
// its chunk.
type Batch struct {
	Version  registry.Version
	Parallel int // calls of Predict that are worth making at once
	model    *model
	release  func()
}

// OpenBatch opens what a ref stands for: a name alone is what traffic goes
// to. With a digest, another version is refused.
func (c *Control) OpenBatch(ctx context.Context, ref galley.Ref, digest galley.Digest) (*Batch, error) {
	var v registry.Version
	var err error
	if ref.Digest == "" && ref.Version == 0 && ref.Alias == "" {
		v, err = registry.ResolveTraffic(ctx, c.store, ref.Name, "")
	} else {
		v, err = c.resolveVersion(ctx, ref)
	}
	if err != nil {
		return nil, err
	}
	if digest != "" && v.Digest != digest {
		return nil, galley.Errorf(galley.FailedPrecondition, v.Ref(), "has the digest %s, not %s", v.Digest.Short(), digest.Short()).
			WithRemedy("begin anew, with another --out")
	}
	if v.Task != string(task.TextClassification) {
		return nil, galley.Errorf(galley.FailedPrecondition, v.Ref(), "cannot score files: its task is %q", v.Task).
			WithRemedy("choose a version of task %s", task.TextClassification)
	}
	select {
	case c.batches <- struct{}{}:
	default:
		return nil, galley.Errorf(galley.ResourceExhausted, v.Ref(), "%d batch predictions run already", maxBatches).
			WithRemedy("wait until one has ended")
	}
	release := func() { <-c.batches }
	m, err := c.openVersion(ctx, v, session.Options{Threads: 1, NoMemoryPattern: true, Label: "batch"})
	if err != nil {
		release()
		return nil, err
	}
	return &Batch{Version: v, Parallel: c.cpus, model: m, release: release}, nil
}

// Predict answers texts, in their order. It may be called by several
// goroutines at once.
func (b *Batch) Predict(ctx context.Context, texts []string) ([]task.Classification, error) {
	return b.model.predictor.Predict(ctx, texts)
}

// Labels are in the order of the scores.
func (b *Batch) Labels() []string { return b.model.labels() }

// Close gives back what the batch holds; no call may be under way.
func (b *Batch) Close() {
	b.model.close()
	b.release()
}

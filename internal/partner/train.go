package partner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"galley/federation"
	"galley/internal/durable"
	"galley/onnx"
	"galley/task"
	"galley/trainer"
	"galley/trainer/engine"
	"galley/trainer/launch"
)

const (
	// localData names the partner's rows in a spec. It never leaves.
	localData = "rows"
	// tries is how often a training that crashed is begun again, from its last
	// checkpoint.
	tries = 3
	// progressEvery is between two lines of a training in the log.
	progressEvery = 15 * time.Second
)

// A training is what became of the weights, and how well they do on the
// partner's own validation rows.
type training struct {
	after   [][]float32
	metrics map[string]float64
}

// spec is the job that an offer asks for, checked as any job file is.
func (a *agent) spec(o federation.Offer) (trainer.Spec, error) {
	s, err := trainer.Local(o.Model, localData, o.Round, o.Recipe)
	s.Resources.CPUs = a.options.CPUs
	return s, err
}

// train runs the round's training in a process of its own. One that an agent
// began before it was killed goes on from its last checkpoint.
func (a *agent) train(ctx context.Context, o federation.Offer, s trainer.Spec, m *model, rows records) (training, error) {
	name := fmt.Sprintf("%s-%d-%d-%s", o.Run, o.Round, o.Attempt, o.Base.Short())
	if err := a.home.keepNames(workFolder, name); err != nil {
		return training{}, err
	}
	dir := a.home.path(workFolder, name)
	r := engine.Request{
		Job: o.Run, Attempt: 1, Spec: s, Data: rows.manifest, Records: rows.files,
		Parent: filepath.Join(dir, "parent"), WorkDir: filepath.Join(dir, "job"), Federated: &engine.Federated{Mu: o.Mu},
	}
	if err := os.MkdirAll(r.WorkDir, 0o700); err != nil {
		return training{}, durable.WriteError(r.WorkDir, err)
	}
	if err := m.write(r.Parent); err != nil {
		return training{}, err
	}
	result, err := a.run(ctx, r)
	if err != nil {
		return training{}, err
	}
	return a.result(m, result)
}

// run starts the attempt, and again if it crashes.
func (a *agent) run(ctx context.Context, r engine.Request) (engine.Result, error) {
	for ; ; r.Attempt++ {
		o, err := a.attempt(ctx, r)
		switch {
		case err != nil:
			return engine.Result{}, err
		case ctx.Err() != nil:
			return engine.Result{}, context.Cause(ctx)
		case o.Ending == launch.Finished:
			return o.Result, nil
		case o.Ending == launch.Crashed && o.Cause == trainer.OutOfMemory:
			return engine.Result{}, &declined{noMemory, o.Err}
		case o.Ending == launch.Crashed && r.Attempt < tries:
			a.log.Warn("training crashed, and goes on from its last checkpoint", "error", o.Err)
		default:
			return engine.Result{}, &declined{noTraining, o.Err}
		}
	}
}

// attempt runs one process. When ctx ends it is killed, but for the agent's own
// end: then it stores a checkpoint first.
func (a *agent) attempt(ctx context.Context, r engine.Request) (launch.Outcome, error) {
	began := time.Now()
	a.log.Info("training", "run", r.Job, "rows", r.Data.Splits["train"].Rows, "epochs", r.Spec.Recipe.Epochs, "lr", r.Spec.Recipe.Optimizer.LR, "cpus", r.Spec.Resources.CPUs)
	p, err := a.options.Launcher.Start(context.WithoutCancel(ctx), r)
	if err != nil {
		return launch.Outcome{}, err
	}
	unbind := context.AfterFunc(ctx, func() {
		if cause := context.Cause(ctx); errors.Is(cause, errSuperseded) || errors.Is(cause, context.DeadlineExceeded) {
			p.Kill()
		} else {
			p.Stop()
		}
	})
	defer unbind()
	var said time.Time
	for report := range p.Reports() {
		if e := report.Event; e != nil && e.Kind == engine.Progress && time.Since(said) > progressEvery {
			said = time.Now()
			a.log.Info("training", "run", r.Job, "step", e.Step, "steps", e.Steps, "loss", e.Loss)
		}
	}
	o := p.Wait()
	if o.Ending == launch.Finished {
		a.log.Info("training is done", "run", r.Job, "steps", o.Result.Steps, "seconds", int(time.Since(began).Seconds()))
	}
	return o, nil
}

// result reads the weights that a training ended with.
func (a *agent) result(m *model, r engine.Result) (training, error) {
	graph, err := onnx.ReadFile(filepath.Join(r.Bundle, task.ModelFile), onnx.ReadOptions{})
	if err != nil {
		return training{}, err
	}
	after, err := m.after(graph)
	return training{after, r.Metrics}, err
}

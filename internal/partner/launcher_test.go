package partner

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"galley"
	"galley/onnx"
	"galley/task"
	"galley/trainer"
	"galley/trainer/engine"
	"galley/trainer/launch"
)

// A trainingDouble trains in this process: each number of the weights moves by
// a function of the round.
type trainingDouble struct {
	mu       sync.Mutex
	requests []engine.Request
	stopped  int
	killed   int
	hold     chan struct{}                    // a training ends when it is closed; nil for at once
	outcome  func(attempt int) launch.Outcome // nil for a model
	spoil    func(values []float32)           // of the trained weights
}

func (d *trainingDouble) Start(_ context.Context, r engine.Request) (launch.Attempt, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.requests = append(d.requests, r)
	a := &attemptDouble{d: d, r: r, ended: make(chan struct{}), reports: make(chan launch.Report), end: make(chan launch.Ending, 2)}
	go a.run(d.hold)
	return a, nil
}

func (d *trainingDouble) seen() []engine.Request {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.requests)
}

type attemptDouble struct {
	d       *trainingDouble
	r       engine.Request
	reports chan launch.Report
	end     chan launch.Ending
	ended   chan struct{}
	outcome launch.Outcome
}

func (a *attemptDouble) Reports() <-chan launch.Report { return a.reports }
func (a *attemptDouble) Stop() {
	a.d.mu.Lock()
	a.d.stopped++
	a.d.mu.Unlock()
	a.end <- launch.Stopped
}
func (a *attemptDouble) Kill() {
	a.d.mu.Lock()
	a.d.killed++
	a.d.mu.Unlock()
	a.end <- launch.Crashed
}
func (a *attemptDouble) Wait() launch.Outcome { <-a.ended; return a.outcome }

func (a *attemptDouble) run(hold chan struct{}) {
	defer close(a.ended)
	defer close(a.reports)
	a.reports <- launch.Report{Event: &engine.Event{Kind: engine.Progress, Step: 1, Steps: 2}}
	if hold != nil {
		select {
		case <-hold:
		case e := <-a.end:
			a.outcome = launch.Outcome{Ending: e, Cause: trainer.Killed, Err: galley.Errorf(galley.Aborted, "attempt", "was ended")}
			return
		}
	}
	if a.d.outcome != nil {
		a.outcome = a.d.outcome(a.r.Attempt)
		if a.outcome.Ending != launch.Finished {
			return
		}
	}
	result, err := a.train()
	if err != nil {
		a.outcome = launch.Outcome{Ending: launch.Failed, Err: galley.AsError(err)}
		return
	}
	a.outcome = launch.Outcome{Ending: launch.Finished, Result: result}
}

// train moves the parent's weights.
func (a *attemptDouble) train() (engine.Result, error) {
	graph, err := onnx.ReadFile(filepath.Join(a.r.Parent, task.ModelFile), onnx.ReadOptions{})
	if err != nil {
		return engine.Result{}, err
	}
	weights, _, err := exchanged(graph)
	if err != nil {
		return engine.Result{}, err
	}
	for i, w := range weights {
		values, _ := w.Floats()
		moved := slices.Clone(values)
		for j := range moved {
			moved[j] += float32(math.Sin(float64(i+j))) / 100
		}
		if a.d.spoil != nil {
			a.d.spoil(moved)
		}
		*w = *onnx.NewFloat(w.Name, moved, w.Dims...)
	}
	data, err := onnx.Marshal(graph)
	dir := filepath.Join(a.r.WorkDir, "bundle")
	err = errors.Join(err, os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, task.ModelFile), data, 0o600))
	return engine.Result{Bundle: dir, Steps: 2, Metrics: map[string]float64{"loss": 0.5, "accuracy": 0.75, "secret": 1}}, err
}

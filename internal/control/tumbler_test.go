package control

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"galley"
	"galley/feature/text"
	"galley/internal/durable"
	"galley/onnx"
	"galley/task"
	"galley/trainer"
	"galley/trainer/engine"
)

var drivers = engine.Drivers{"onnx": tumbler{}}

// A tumbler is an engine whose training is a chain of hashes: what it makes
// depends on each of its steps, and on nothing else.
type tumbler struct{}

func (tumbler) Name() string    { return "onnx" }
func (tumbler) Version() string { return "tumbler 1" }

type tumble struct {
	Step int
	Hash []byte
}

// Seeds with which the first attempt comes to grief at step 5.
const (
	hangs   = 666
	starves = 667
)

// unsettled is the seed of a federation whose model cannot be made at first.
const unsettled = 668

// The steps of a tumbler.
const (
	stepTime      = 2 * time.Millisecond
	stepsPerEpoch = 20
)

func (tumbler) Train(ctx context.Context, r engine.Request, report func(engine.Event)) (engine.Result, error) {
	if r.Spec.Kind == trainer.KindFederate {
		return settleRounds(ctx, r)
	}
	steps := r.Spec.Recipe.Epochs * stepsPerEpoch
	var state tumble
	path := filepath.Join(r.WorkDir, "state.json")
	if data, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(data, &state); err != nil {
			return engine.Result{}, err
		}
	}
	save := func() error {
		data, err := json.Marshal(state)
		if err == nil {
			err = durable.Write(path, 0o600, data)
		}
		if err == nil {
			report(engine.Event{Kind: engine.Checkpointed, Step: state.Step, Steps: steps})
		}
		return err
	}
	report(engine.Event{Kind: engine.Started, Step: state.Step, Steps: steps})
	fmt.Fprintln(os.Stderr, "parent", r.Parent != "", "records", len(r.Records))
	for state.Step < steps {
		if r.Attempt == 1 && state.Step == 5 {
			switch r.Spec.Recipe.Seed {
			case hangs:
				_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			case starves:
				return engine.Result{}, galley.Errorf(galley.Internal, "onnx", "Failed to allocate memory for requested buffer")
			}
		}
		if ctx.Err() != nil {
			return engine.Result{}, errors.Join(save(), ctx.Err())
		}
		time.Sleep(stepTime)
		sum := sha256.Sum256(fmt.Appendf(state.Hash, "%d", r.Spec.Recipe.Seed))
		state.Step, state.Hash = state.Step+1, sum[:]
		report(engine.Event{Kind: engine.Progress, Step: state.Step, Steps: steps, Loss: 1 / float64(state.Step)})
		if r.Spec.Recipe.Optimizer.LR > 5 && state.Step == 7 {
			return engine.Result{}, galley.Errorf(galley.FailedPrecondition, "recipe", "the loss is NaN at step %d", state.Step).
				WithRemedy("lower recipe.optimizer.lr")
		}
		if state.Step%r.Spec.Recipe.CheckpointEvery == 0 {
			if err := save(); err != nil {
				return engine.Result{}, err
			}
		}
	}
	result := engine.Result{Bundle: filepath.Join(r.WorkDir, "bundle"), Steps: steps, Metrics: map[string]float64{"loss": 0.25}}
	if r.Spec.Name == "slow" {
		result.Withheld = "it is slower"
	}
	if err := os.RemoveAll(result.Bundle); err != nil {
		return result, err
	}
	return result, writeBundle(result.Bundle, r.Spec.Task, r.Data.Labels, state.Hash)
}

// settleRounds makes the model of a federation: the parent as it is.
func settleRounds(ctx context.Context, r engine.Request) (engine.Result, error) {
	result := engine.Result{Bundle: filepath.Join(r.WorkDir, "bundle"), Metrics: map[string]float64{"loss": 0.125}}
	if r.Spec.Recipe.Seed == unsettled {
		if _, err := os.Stat(filepath.Join(r.WorkDir, "mended")); err != nil {
			return result, galley.Errorf(galley.FailedPrecondition, "valid", "cannot be read")
		}
	}
	if err := os.RemoveAll(result.Bundle); err != nil {
		return result, err
	}
	return result, errors.Join(os.CopyFS(result.Bundle, os.DirFS(r.Parent)), ctx.Err())
}

// writeBundle writes a graph that scores a text by the sum of its token ids,
// with the hash as a further weight.
func writeBundle(dir, kind string, labels []string, hash []byte) error {
	g := &onnx.Graph{Name: "test"}
	b := onnx.NewBuilder(g)
	shape := onnx.Shape{onnx.Symbol("batch"), onnx.Symbol("length")}
	ids := b.Input("input_ids", onnx.Int64, shape)
	classes := max(2, len(labels))
	weights := make([]float32, classes)
	for i := range weights {
		weights[i] = float32(int(hash[i%len(hash)])-128) / 1e4
	}
	sum := b.OpAttrs("ReduceSum", map[string]onnx.Attr{"keepdims": int64(1)},
		b.OpAttrs("Cast", map[string]onnx.Attr{"to": int64(onnx.Float)}, ids), b.Ints(1))
	g.Nodes = append(g.Nodes, &onnx.Node{Name: "head", Op: "MatMul",
		Inputs: []string{sum, b.Weight(onnx.NewFloat("weights", weights, 1, int64(classes)))}, Outputs: []string{"logits"}})
	b.Output("logits", onnx.Float, onnx.Shape{onnx.Symbol("batch"), {Size: int64(classes)}})
	m := &onnx.Model{IRVersion: 8, Opsets: map[string]int64{"": 17}, Graph: g}
	tokenizer, err := text.Train(context.Background(), func(yield func(string) bool) {
		for _, s := range []string{"sport goal", "money bank", "sport goal", "money bank"} {
			if !yield(s) {
				return
			}
		}
	}, text.TrainOptions{VocabSize: 100})
	if err != nil {
		return err
	}
	c := &task.Config{Format: task.ConfigFormat, Task: task.Kind(kind), MaxLength: 16, Inputs: task.Inputs{IDs: "input_ids"}, Outputs: task.DefaultOutputs}
	if c.Task == task.TextClassification {
		c.Labels = labels
	}
	return task.WriteBundle(dir, m, c, tokenizer)
}

// Package enginetest is what every training engine must pass: it trains real
// models on galley's own headlines and holds the engine to its contract.
package enginetest

import (
	"bytes"
	"context"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"galley"
	"galley/dataset"
	"galley/examples/headlines"
	"galley/onnx"
	"galley/task"
	"galley/trainer"
	"galley/trainer/engine"
)

// Run holds a driver to the contract.
func Run(t *testing.T, d engine.Driver) {
	data := freeze(t)
	t.Run("Classification", func(t *testing.T) { testClassification(t, d, data) })
	t.Run("Pretraining", func(t *testing.T) { testPretraining(t, d, data) })
	t.Run("GoesOn", func(t *testing.T) { testGoesOn(t, d, data) })
	t.Run("SameBits", func(t *testing.T) { testSameBits(t, d, data) })
	t.Run("Killed", func(t *testing.T) { testKilled(t, d, data.request(t, nil)) })
	t.Run("Distillation", func(t *testing.T) { testDistillation(t, d, data) })
	t.Run("Cancelled", func(t *testing.T) { testCancelled(t, d, data) })
	t.Run("CancelledBeforeValidation", func(t *testing.T) { testCancelledBeforeValidation(t, d, data) })
	t.Run("DamagedCheckpoint", func(t *testing.T) { testDamagedCheckpoint(t, d, data) })
	t.Run("Diverges", func(t *testing.T) { testDiverges(t, d, data) })
	t.Run("EarlyStop", func(t *testing.T) { testEarlyStop(t, d, data) })
}

// frozen is the headlines as record files.
type frozen struct {
	manifest *dataset.Manifest
	records  map[string]string
}

func freeze(t *testing.T) frozen {
	t.Helper()
	dir := t.TempDir()
	columns, err := dataset.ParseColumns("text=text,label=label,language=language")
	if err != nil {
		t.Fatal(err)
	}
	input := func(split string) *dataset.Input {
		return &dataset.Input{Name: split + ".csv", Open: func() (io.ReadCloser, error) { return headlines.Files.Open(split + ".csv") }}
	}
	f := frozen{records: map[string]string{}}
	var files []*os.File
	f.manifest, _, err = dataset.Freeze(t.Context(), dataset.FreezeOptions{
		Name: "headlines", Format: dataset.CSV, Columns: columns, NeedLabel: true,
	}, dataset.Inputs{Train: input("train"), Valid: input("valid")}, func(s dataset.Split) (io.Writer, error) {
		path := filepath.Join(dir, string(s))
		w, err := os.Create(path)
		f.records[string(s)] = path
		files = append(files, w)
		return w, err
	})
	for _, w := range files {
		w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// request is a small job: seconds, and yet with everything that can go wrong
// in a resumed run: dropout, dropped tokens, accumulation, several epochs.
func (f frozen) request(t *testing.T, change func(*trainer.Spec)) engine.Request {
	t.Helper()
	spec, problems := trainer.ParseFile([]byte(`
apiVersion: galley/v1
kind: Train
name: conformance
task: text-classification
data: {dataset: headlines}
model: {layers: 1, hidden: 32, heads: 2, feed_forward: 64, max_length: 24, vocabulary: 2000, dropout: 0.1, ngrams: {orders: 2, buckets: 4096, width: 16}}
recipe:
  epochs: 2
  batch_size: 16
  accumulate: 2
  token_dropout: 0.1
  checkpoint_every: 7
  optimizer: {lr: 3e-3}
  seed: 11
`), nil)
	if problems != nil {
		t.Fatal(problems)
	}
	if change != nil {
		change(&spec)
	}
	return engine.Request{Job: "conformance", Attempt: 1, Spec: spec, Data: f.manifest, Records: f.records, WorkDir: t.TempDir()}
}

// train runs an attempt that must succeed, and returns its result and events.
func train(t *testing.T, d engine.Driver, r engine.Request) (engine.Result, []engine.Event) {
	t.Helper()
	var events []engine.Event
	result, err := d.Train(t.Context(), r, func(e engine.Event) { events = append(events, e) })
	if err != nil {
		t.Fatal(err)
	}
	return result, events
}

func model(t *testing.T, result engine.Result) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(result.Bundle, "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func testClassification(t *testing.T, d engine.Driver, data frozen) {
	r := data.request(t, func(s *trainer.Spec) { s.Recipe.Epochs = 4 })
	result, events := train(t, d, r)
	if result.Metrics["accuracy"] < 0.5 {
		t.Errorf("accuracy %v on six topics after four epochs", result.Metrics["accuracy"])
	}
	var began bool
	var last engine.Event
	for _, e := range events {
		began = began || e.Kind == engine.Started && e.Steps > 0
		if e.Kind == engine.Progress {
			last = e
		}
	}
	if !began || last.Step != last.Steps || last.Step != result.Steps {
		t.Errorf("began %v; the last progress is step %d of %d, the result has %d", began, last.Step, last.Steps, result.Steps)
	}
	for _, name := range []string{task.ModelFile, task.ConfigFile, task.TokenizerFile} {
		if _, err := os.Stat(filepath.Join(result.Bundle, name)); err != nil {
			t.Error(err)
		}
	}
	f, err := os.Open(filepath.Join(result.Bundle, task.ConfigFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	config, err := task.DecodeConfig(f)
	if err != nil {
		t.Fatal(err)
	}
	// The order of labels is that of the data, which the logits follow.
	if !slices.Equal(config.Labels, data.manifest.Labels) || len(config.Labels) != 6 {
		t.Errorf("the bundle's labels are %v, the data's %v", config.Labels, data.manifest.Labels)
	}
}

func testPretraining(t *testing.T, d engine.Driver, data frozen) {
	pretrain := data.request(t, func(s *trainer.Spec) {
		s.Task, s.Recipe.MaskRate, s.Model.NGrams, s.Recipe.LabelSmoothing = trainer.TextMLM, 0.15, trainer.NGrams{}, 0
	})
	base, _ := train(t, d, pretrain)
	if loss := base.Metrics["loss"]; !(loss > 0 && loss < 7.6) { // ln 2000
		t.Errorf("the loss after pretraining is %v", loss)
	}
	tune := data.request(t, func(s *trainer.Spec) { s.From = "base@1" })
	tune.Parent = base.Bundle
	result, _ := train(t, d, tune)
	if result.Metrics["accuracy"] < 0.4 {
		t.Errorf("accuracy %v after fine-tuning", result.Metrics["accuracy"])
	}
}

// testGoesOn takes one tiny step from a classifier of the same labels, one that
// galley built and one that was put onto an outside graph: it answers as its
// parent does.
func testGoesOn(t *testing.T, d engine.Driver, data frozen) {
	first, _ := train(t, d, data.request(t, nil))
	adopt := data.request(t, func(s *trainer.Spec) { s.From = "outside.onnx" })
	adopt.Parent = outside(t, first)
	adopted, _ := train(t, d, adopt)
	for name, parent := range map[string]engine.Result{"own": first, "adopted": adopted} {
		r := data.request(t, func(s *trainer.Spec) {
			s.From, s.Recipe.Epochs, s.Recipe.MaxSteps, s.Recipe.Optimizer.LR = "parent@1", 1, 1, 1e-9
		})
		r.Parent = parent.Bundle
		result, _ := train(t, d, r)
		if got, want := result.Metrics["accuracy"], parent.Metrics["accuracy"]; math.Abs(got-want) > 0.01 || want < 0.3 {
			t.Errorf("%s: one tiny step from a model of accuracy %v has %v", name, want, got)
		}
	}
}

// outside is the folder of a graph that galley did not build: the token table
// of a model, with its tokenizer.
func outside(t *testing.T, from engine.Result) string {
	t.Helper()
	m, err := onnx.ReadFile(filepath.Join(from.Bundle, task.ModelFile), onnx.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	table := m.Graph.Initializer("embeddings.tokens")
	b := onnx.NewBuilder(&onnx.Graph{Name: "outside"})
	shape := onnx.Shape{onnx.Symbol("batch"), onnx.Symbol("length")}
	ids := b.Input("input_ids", onnx.Int64, shape)
	b.Input("attention_mask", onnx.Int64, shape)
	states := b.Op("Gather", b.Weight(table), ids)
	b.Output(states, onnx.Float, onnx.Shape{shape[0], shape[1], {Size: table.Dims[1]}})
	dir := t.TempDir()
	if err := onnx.WriteFile(filepath.Join(dir, task.ModelFile), &onnx.Model{
		IRVersion: m.IRVersion, Opsets: m.Opsets, Graph: b.Graph,
	}, onnx.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	tokenizer, err := os.ReadFile(filepath.Join(from.Bundle, task.TokenizerFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, task.TokenizerFile), tokenizer, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func testSameBits(t *testing.T, d engine.Driver, data frozen) {
	first, _ := train(t, d, data.request(t, nil))
	again, _ := train(t, d, data.request(t, nil))
	if !bytes.Equal(model(t, first), model(t, again)) {
		t.Error("the same request gave other weights")
	}
	other, _ := train(t, d, data.request(t, func(s *trainer.Spec) { s.Recipe.Seed++ }))
	if bytes.Equal(model(t, first), model(t, other)) {
		t.Error("another seed gave the same weights")
	}
}

// testKilled copies the work folder as a kill at some moments would leave it,
// and goes on from each copy.
func testKilled(t *testing.T, d engine.Driver, r engine.Request) {
	var copies []string
	events := 0
	result, err := d.Train(t.Context(), r, func(e engine.Event) {
		if events++; e.Kind == engine.Checkpointed && len(copies) < 4 && events%2 == 0 {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(r.WorkDir)); err != nil {
				t.Error(err)
			}
			copies = append(copies, dir)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want := model(t, result)
	for _, dir := range copies {
		resumed := r
		resumed.WorkDir, resumed.Attempt = dir, 2
		result, events := train(t, d, resumed)
		for _, e := range events {
			if e.Kind == engine.Started && e.Step == 0 {
				t.Error("the resumed attempt began at the start")
			}
		}
		if !bytes.Equal(model(t, result), want) {
			t.Error("the resumed attempt gave other weights")
		}
	}
	if len(copies) == 0 {
		t.Error("no checkpoint was stored")
	}
}

func testCancelled(t *testing.T, d engine.Driver, data frozen) {
	want, _ := train(t, d, data.request(t, nil))
	r := data.request(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := d.Train(ctx, r, func(e engine.Event) {
		if e.Kind == engine.Checkpointed && e.Step >= 20 {
			cancel()
		}
	})
	if galley.CodeOf(err) != galley.Canceled {
		t.Fatalf("a cancelled attempt returned %v", err)
	}
	result, events := train(t, d, r)
	if events[len(events)-1].Step < 20 || events[0].Step < 20 && events[0].Kind == engine.Started {
		t.Error("the steps before the cancellation were lost")
	}
	if !bytes.Equal(model(t, result), model(t, want)) {
		t.Error("the attempt after the cancellation gave other weights")
	}
}

// testCancelledBeforeValidation asks the attempt to end when its last step is
// done and not yet validated.
func testCancelledBeforeValidation(t *testing.T, d engine.Driver, data frozen) {
	want, _ := train(t, d, data.request(t, nil))
	if want.BestStep != want.Steps {
		t.Fatalf("step %d of %d is the best: the test needs the last to be", want.BestStep, want.Steps)
	}
	r := data.request(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := d.Train(ctx, r, func(e engine.Event) {
		if e.Kind == engine.Progress && e.Step == e.Steps {
			cancel()
		}
	})
	if galley.CodeOf(err) != galley.Canceled {
		t.Fatalf("a cancelled attempt returned %v", err)
	}
	result, _ := train(t, d, r)
	if result.BestStep != want.BestStep || !bytes.Equal(model(t, result), model(t, want)) {
		t.Errorf("the attempt after the cancellation chose step %d, want %d", result.BestStep, want.BestStep)
	}
}

// testDamagedCheckpoint damages the newest checkpoint, then the best weights:
// the next attempt goes on from what is whole, to the same result.
func testDamagedCheckpoint(t *testing.T, d engine.Driver, data frozen) {
	r := data.request(t, nil)
	want, _ := train(t, d, r)
	bits := model(t, want)
	for _, kind := range []string{"step-*", "best-*"} {
		found, err := filepath.Glob(filepath.Join(r.WorkDir, "checkpoints", kind))
		if err != nil || len(found) == 0 {
			t.Fatal("no checkpoints", err)
		}
		newest := found[len(found)-1]
		content, err := os.ReadFile(newest)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)/2] ^= 0x40
		if err := os.WriteFile(newest, content, 0o644); err != nil {
			t.Fatal(err)
		}
		again, _ := train(t, d, r)
		if !bytes.Equal(model(t, again), bits) {
			t.Errorf("with a damaged %s the next attempt gave other weights", kind)
		}
	}
}

func testDiverges(t *testing.T, d engine.Driver, data frozen) {
	r := data.request(t, func(s *trainer.Spec) {
		s.Recipe.Optimizer.LR, s.Recipe.ClipNorm, s.Recipe.CheckpointEvery = 1e30, 0, 1
	})
	_, err := d.Train(t.Context(), r, func(engine.Event) {})
	if galley.CodeOf(err) != galley.OutOfRange || !bytes.Contains([]byte(err.Error()), []byte("step ")) {
		t.Fatalf("a diverging run returned %v", err)
	}
	if found, _ := filepath.Glob(filepath.Join(r.WorkDir, "checkpoints", "step-*")); len(found) == 0 {
		t.Error("the last good checkpoint is gone")
	}
}

func testEarlyStop(t *testing.T, d engine.Driver, data frozen) {
	r := data.request(t, func(s *trainer.Spec) {
		s.Recipe.Epochs, s.Recipe.EarlyStop, s.Recipe.ValidateEvery, s.Recipe.Optimizer.LR = 3, 1, 5, 1e-9
	})
	result, _ := train(t, d, r)
	if result.Steps >= 3*53 {
		t.Errorf("a run without gain went on for %d steps", result.Steps)
	}
}

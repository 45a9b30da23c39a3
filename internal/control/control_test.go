package control

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"galley"
	"galley/dataset"
	"galley/feature/text"
	"galley/internal/blob"
	"galley/internal/durable"
	"galley/internal/store"
	"galley/internal/store/sqlite"
	"galley/onnx"
	"galley/onnx/session"
	"galley/task"
	"galley/trainer"
	"galley/trainer/engine"
	"galley/trainer/launch/process"
)

// The test binary is the attempt and the server, too: see Main and server.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "attempt":
			os.Exit(process.Main(drivers))
		case "server":
			os.Exit(server(os.Args[2]))
		case "faults":
			os.Exit(loadedServer(os.Args[2:]))
		}
	}
	// The race detector would keep each child for a second.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	os.Exit(m.Run())
}

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

// The steps of a tumbler.
const (
	stepTime      = 2 * time.Millisecond
	stepsPerEpoch = 20
)

func (tumbler) Train(ctx context.Context, r engine.Request, report func(engine.Event)) (engine.Result, error) {
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
	if err := os.RemoveAll(result.Bundle); err != nil {
		return result, err
	}
	return result, writeBundle(result.Bundle, r.Spec.Task, r.Data.Labels, state.Hash)
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

// noOpener stands for a machine without a runtime.
type noOpener struct{}

func (noOpener) Open(context.Context, []byte, session.Options) (session.Session, error) {
	return nil, galley.Errorf(galley.FailedPrecondition, "runtime", "is missing")
}
func (o noOpener) OpenFile(ctx context.Context, _ string, _ session.Options) (session.Session, error) {
	return o.Open(ctx, nil, session.Options{})
}
func (noOpener) Runtime() string { return "none" }

// A world is an open home with its control, which runs.
type world struct {
	*Control
	stop func()
}

func open(home string, opener session.Opener, cpus int) (*world, error) {
	return openWith(home, opener, cpus, blob.Options{})
}

func openWith(home string, opener session.Opener, cpus int, o blob.Options, more ...func(*Options)) (*world, error) {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, home)
	if err != nil {
		return nil, err
	}
	blobs, err := blob.Open(filepath.Join(home, "blobs"), o)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	options := Options{
		Home: home, Store: s, Blobs: blobs, Opener: opener, Drivers: drivers, CPUs: cpus,
		Launcher: process.Launcher{Args: []string{"attempt"}},
		Logger:   slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, set := range more {
		set(&options)
	}
	c, err := Open(ctx, options)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	run, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(run)
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		<-done
		limit, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		_ = c.Close(limit)
		_ = s.Close()
	})
	return &world{Control: c, stop: stop}, nil
}

func newWorld(t *testing.T, opener session.Opener, cpus int) *world {
	t.Helper()
	w, err := open(t.TempDir(), opener, cpus)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	return w
}

const rows = "text,label\n" +
	"sport goal one,sport\nsport goal two,sport\nsport goal three,sport\n" +
	"money bank one,money\nmoney bank two,money\nmoney bank three,money\n"

func (w *world) add(t *testing.T, name string, files map[string]string) *dataset.Rejections {
	t.Helper()
	s, err := w.NewSpool()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for split, data := range files {
		// In pieces, as they come over the wire.
		for len(data) > 0 {
			n := min(7, len(data))
			if err := s.Write(split, split+".csv", []byte(data[:n])); err != nil {
				t.Fatal(err)
			}
			data = data[n:]
		}
	}
	d, rejected, err := w.AddData(t.Context(), "ann", dataset.FreezeOptions{Name: name, Format: dataset.CSV, Seed: 1}, s)
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != name || d.Version < 1 {
		t.Errorf("%+v", d)
	}
	return rejected
}

func jobFile(name, kind, more string) []byte {
	return fmt.Appendf(nil, "apiVersion: galley/v1\nkind: Train\nname: %s\ntask: %s\ndata: {dataset: news}\nresources: {cpus: 1}\n%s", name, kind, more)
}

func (w *world) submit(t *testing.T, file []byte) trainer.Job {
	t.Helper()
	j, err := w.Submit(t.Context(), "ann", file, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// wait follows a job until it is final.
func (w *world) wait(t *testing.T, id string) trainer.Job {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var last trainer.Job
	if err := w.Watch(ctx, id, func(j trainer.Job) error { last = j; return nil }); err != nil {
		t.Fatalf("%v; job %+v", err, last)
	}
	return last
}

func (w *world) log(t *testing.T, id string) string {
	t.Helper()
	var b strings.Builder
	if err := w.Logs(t.Context(), id, 0, true, func(_ trainer.Job, l store.Line) error {
		fmt.Fprintln(&b, l.Text)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTrainAndPublish(t *testing.T) {
	w := newWorld(t, noOpener{}, 2)
	if r := w.add(t, "news", map[string]string{"train": rows + "only one column\n"}); r.Total != 1 || r.First[0].File != "train.csv" {
		t.Errorf("rejected %+v", r)
	}
	j := w.wait(t, w.submit(t, jobFile("base", "text-mlm", "recipe: {epochs: 1}\n")).ID)
	if j.Phase != trainer.Succeeded || len(j.Versions) != 1 || j.Versions[0] != "base@1" || j.Metrics["loss"] != 0.25 {
		t.Fatalf("%+v", j)
	}
	v, aliases, err := w.Version(t.Context(), galley.Ref{Name: "base"})
	if err != nil {
		t.Fatal(err)
	}
	if len(aliases) != 1 || aliases[0] != Candidate || len(v.Artifacts) != 3 || v.Lineage.Job != j.ID || v.Lineage.Dataset != "news@1" {
		t.Errorf("%+v %v", v, aliases)
	}
	log := w.log(t, j.ID)
	for _, want := range []string{"started at step 0/20", "parent false records 2", "published as base@1"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	// The work folder goes with success.
	eventually(t, func() bool { _, err := os.Stat(w.workDir(j.ID)); return os.IsNotExist(err) })

	// The same spec is the same model.
	again := w.wait(t, w.submit(t, jobFile("base", "text-mlm", "recipe: {epochs: 1}\n")).ID)
	if again.Versions[0] != "base@1" {
		t.Errorf("%v", again.Versions)
	}

	// Going on from it.
	next := w.wait(t, w.submit(t, jobFile("more", "text-mlm", "from: base@1\n")).ID)
	if next.Phase != trainer.Succeeded || next.ParentRef != "base@1" || next.Parent != v.Digest {
		t.Errorf("%+v", next)
	}
	if log := w.log(t, next.ID); !strings.Contains(log, "parent true") {
		t.Error(log)
	}
	tree, err := w.Lineage(t.Context(), galley.Ref{Name: "more"})
	if err != nil || tree.Parent == nil || tree.Parent.Ref != "base@1" || tree.Parent.Parent != nil {
		t.Errorf("%+v %v", tree, err)
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("it did not happen")
}

// A NaN loss fails the job and names the step; after a change of mind it can
// be resumed, and fails again.
func TestNaN(t *testing.T) {
	w := newWorld(t, noOpener{}, 2)
	w.add(t, "news", map[string]string{"train": rows})
	j := w.wait(t, w.submit(t, jobFile("bad", "text-mlm", "recipe: {optimizer: {lr: 9}, checkpoint_every: 5}\n")).ID)
	if j.Phase != trainer.Failed || j.Error.Error() != "recipe: the loss is NaN at step 7 — lower recipe.optimizer.lr" || j.Progress.Checkpoint != 5 {
		t.Fatalf("%+v %v", j, j.Error)
	}
	why, err := w.Explain(t.Context(), j.ID)
	if err != nil || len(why.Reasons) < 2 || !strings.Contains(why.Reasons[1], "goes on from step 5") {
		t.Errorf("%+v %v", why, err)
	}
	if _, err := w.Resume(t.Context(), "ann", j.ID); err != nil {
		t.Fatal(err)
	}
	j = w.wait(t, j.ID)
	if j.Phase != trainer.Failed || len(j.Attempts) != 2 || j.Attempts[1].From != 5 {
		t.Errorf("%+v", j)
	}
}

func TestCancelAndResume(t *testing.T) {
	w := newWorld(t, noOpener{}, 1)
	w.add(t, "news", map[string]string{"train": rows})
	long := jobFile("long", "text-mlm", "recipe: {epochs: 500}\n")
	first, second := w.submit(t, long), w.submit(t, jobFile("next", "text-mlm", "recipe: {epochs: 1}\n"))
	eventually(t, func() bool { j, _ := w.Job(t.Context(), first.ID); return j.Progress.Step > 5 })

	why, err := w.Explain(t.Context(), second.ID)
	if err != nil || len(why.Reasons) != 1 || why.Reasons[0] != "it needs 1 of 1 CPUs, and 1 are in use by "+first.ID {
		t.Errorf("%+v %v", why, err)
	}
	if _, err := w.Cancel(t.Context(), "ann", first.ID); err != nil {
		t.Fatal(err)
	}
	j := w.wait(t, first.ID)
	if j.Phase != trainer.Cancelled || j.Progress.Checkpoint < 5 {
		t.Errorf("%+v", j)
	}
	if j := w.wait(t, second.ID); j.Phase != trainer.Succeeded {
		t.Errorf("%+v", j)
	}
	if _, err := w.Cancel(t.Context(), "ann", first.ID); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Error(err)
	}
	at := j.Progress.Checkpoint
	if _, err := w.Resume(t.Context(), "ann", first.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { j, _ := w.Job(t.Context(), first.ID); return j.Attempt() == 2 && j.Progress.Step > at })
	j, _ = w.Job(t.Context(), first.ID)
	if j.Attempts[1].From != at {
		t.Errorf("resumed at %d instead of %d", j.Attempts[1].From, at)
	}
	if _, err := w.Cancel(t.Context(), "ann", first.ID); err != nil {
		t.Fatal(err)
	}
	w.wait(t, first.ID)
}

func TestSubmitRefuses(t *testing.T) {
	w := newWorld(t, noOpener{}, 1)
	w.add(t, "news", map[string]string{"train": rows})
	for _, c := range []struct {
		file string
		code galley.Code
		text string
	}{
		{"kind: Trian\napiVersion: galley/v1\n", galley.InvalidArgument, `line 1, column 7: kind: "Trian" is not a kind — did you mean "Train"?`},
		{string(jobFile("a", "text-mlm", "from: nothing@3\n")), galley.NotFound, "nothing"},
		{string(jobFile("a", "text-mlm", "from: sha256:"+strings.Repeat("0", 64)+"\n")), galley.NotFound, "neither a version nor an upload"},
		{string(jobFile("a", "text-mlm", "from: /etc/model.onnx\n")), galley.InvalidArgument, "opens no file that a client names"},
		{strings.ReplaceAll(string(jobFile("a", "text-mlm", "")), "dataset: news", "train: /etc/passwd, format: csv"), galley.InvalidArgument, "opens no file that a client names"},
		{strings.ReplaceAll(string(jobFile("a", "text-mlm", "")), "dataset: news", "dataset: old"), galley.NotFound, "galley data add"},
		{string(jobFile("a", "text-classification", "recipe: {class_weights: {mode: given, values: {weather: 1}}}\n")), galley.InvalidArgument, `"weather" is not a label of news@1`},
	} {
		_, err := w.Submit(t.Context(), "ann", []byte(c.file), nil, "")
		if galley.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.file, err)
		}
	}
	if jobs, err := w.store.Jobs(t.Context(), store.JobQuery{}); err != nil || len(jobs) != 0 {
		t.Errorf("%d jobs, %v", len(jobs), err)
	}
}

func TestIdempotencyKey(t *testing.T) {
	w := newWorld(t, noOpener{}, 1)
	w.add(t, "news", map[string]string{"train": rows})
	file := jobFile("a", "text-mlm", "recipe: {epochs: 1}\n")
	first, err := w.Submit(t.Context(), "ann", file, nil, "key")
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.Submit(t.Context(), "ann", file, nil, "key")
	if err != nil || again.ID != first.ID {
		t.Errorf("%s %s %v", first.ID, again.ID, err)
	}
	if _, err := w.Submit(t.Context(), "ann", file, []string{"recipe.epochs=2"}, "key"); galley.CodeOf(err) != galley.AlreadyExists {
		t.Error(err)
	}
	other, err := w.Submit(t.Context(), "bob", file, nil, "key")
	if err != nil || other.ID == first.ID {
		t.Errorf("%s %v", other.ID, err)
	}
	w.wait(t, first.ID)
	w.wait(t, other.ID)
	w.passes.Lock() // the jobs below are nobody's
	defer w.passes.Unlock()
	fill := func(n int) {
		w.board.mu.Lock()
		defer w.board.mu.Unlock()
		clear(w.board.tickets)
		for i := range n {
			w.board.tickets[fmt.Sprint("full-", i)] = &ticket{phase: trainer.Queued}
		}
	}
	fill(maxJobs)
	defer fill(0)
	again, err = w.Submit(t.Context(), "ann", file, nil, "key")
	if err != nil || again.ID != first.ID {
		t.Errorf("a full queue: %s %v", again.ID, err)
	}
	if _, err := w.Submit(t.Context(), "ann", file, nil, "another"); galley.CodeOf(err) != galley.ResourceExhausted {
		t.Error(err)
	}
}

// Attempts that are killed go on from their checkpoints, to the same model.
func TestKilledAttempts(t *testing.T) {
	w := newWorld(t, noOpener{}, 2)
	w.add(t, "news", map[string]string{"train": rows})
	spec := "recipe: {epochs: 12, checkpoint_every: 7}\n" // half a second
	whole := w.wait(t, w.submit(t, jobFile("whole", "text-mlm", spec)).ID)
	j := w.submit(t, jobFile("killed", "text-mlm", spec))
	resume := func(j trainer.Job) {
		t.Helper()
		if _, err := w.Resume(t.Context(), "ann", j.ID); err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		time.Sleep(time.Duration(20+r.IntN(150)) * time.Millisecond)
		if now, err := w.Job(t.Context(), j.ID); err == nil && now.Phase == trainer.Failed {
			resume(now) // three in a row died before a checkpoint
		}
		w.mu.Lock()
		if a := w.attempts[j.ID]; a != nil {
			a.mu.Lock()
			if a.process != nil {
				a.process.Kill()
			}
			a.mu.Unlock()
		}
		w.mu.Unlock()
	}
	if j = w.wait(t, j.ID); j.Phase == trainer.Failed {
		resume(j)
		j = w.wait(t, j.ID)
	}
	if j.Phase != trainer.Succeeded {
		t.Fatalf("%+v %v", j, j.Error)
	}
	if len(j.Attempts) < 2 {
		t.Errorf("%d attempts", len(j.Attempts))
	}
	began := 0
	for _, a := range j.Attempts {
		if a.From == 0 && a.Step == 0 {
			continue // killed before it said where it began
		}
		if a.From < began || a.From%7 != 0 {
			t.Errorf("attempt %d began at %d after one that began at %d", a.Number, a.From, began)
		}
		began = a.From
	}
	if got, want := w.modelDigest(t, j.Versions[0]), w.modelDigest(t, whole.Versions[0]); got != want {
		t.Errorf("the interrupted job made %s, the other %s", got, want)
	}
}

func (w *world) modelDigest(t *testing.T, ref string) galley.Digest {
	t.Helper()
	r, err := galley.ParseRef(ref)
	if err != nil {
		t.Fatal(err)
	}
	v, _, err := w.Version(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	a, ok := v.Artifact(task.ModelFile)
	if !ok {
		t.Fatal("no model")
	}
	return a.Digest
}

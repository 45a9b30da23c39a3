//go:build peers

package onnx

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"galley/internal/ort/orttest"
	graph "galley/onnx"
	"galley/onnx/session"
	"galley/trainer"
	"galley/trainer/architecture"
	"galley/trainer/objective"
)

// A duel is a training run that the engine and PyTorch do in a process each,
// from the same weights and on the same batches.
type duel struct {
	Encoder architecture.TextEncoder `json:"encoder"`
	Classes int                      `json:"classes"`
	Batch   int                      `json:"batch"`
	Length  int                      `json:"length"` // all batches are padded to it
	Batches int                      `json:"batches"`
	Steps   int                      `json:"steps"` // that the schedule knows of
	Threads int                      `json:"threads"`
	Recipe  trainer.Recipe           `json:"recipe"`
}

// fullDuel is the text encoder that the speed of training is stated for. Its
// rate is one at which rounding errors do not grow: with 1e-3 two runs that
// differ by 1e-7 at first may be 2e-3 apart after 200 steps.
func fullDuel(steps int, dropout float64) duel {
	d := duel{
		Encoder: architecture.TextEncoder{
			Layers: 4, Hidden: 256, Heads: 4, FeedForward: 1024, MaxLength: 64, Vocabulary: 16000, Dropout: dropout,
		},
		Classes: 6, Batch: 32, Length: 64, Batches: steps, Steps: steps, Threads: 2, Recipe: duelRecipe(),
	}
	d.Recipe.Optimizer.LR = 3e-4
	return d
}

// smallDuel has the same parts and takes seconds, on one thread: small
// operators on several wait for each other where a machine is busy.
func smallDuel(steps int) duel {
	return duel{
		Encoder: architecture.TextEncoder{Layers: 2, Hidden: 64, Heads: 4, FeedForward: 128, MaxLength: 32, Vocabulary: 2000},
		Classes: 6, Batch: 16, Length: 32, Batches: steps, Steps: steps, Threads: 1, Recipe: duelRecipe(),
	}
}

func duelRecipe() trainer.Recipe {
	return trainer.Recipe{
		Optimizer: trainer.Optimizer{
			Name: "adamw", LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8, WeightDecay: 0.01, TableRate: 1,
		},
		Schedule:       trainer.Schedule{Decay: "cosine", Warmup: 0.06},
		ClipNorm:       1,
		LabelSmoothing: 0.1,
		Seed:           5,
	}
}

func (d duel) model() (*graph.Model, error) {
	return d.Encoder.Classifier(d.Classes, nil, d.Recipe.Seed)
}

// Rows are the batches of a duel, one after the other.
type duelRows struct{ ids, mask, labels []int64 }

// rows draws texts with the lengths and the frequencies of words of news: a
// third of a text's words tell its class.
func (d duel) rows() duelRows {
	r := rand.New(rand.NewPCG(d.Recipe.Seed, 99))
	n, v := d.Batch*d.Batches, int64(d.Encoder.Vocabulary)
	rows := duelRows{make([]int64, n*d.Length), make([]int64, n*d.Length), make([]int64, n)}
	zipf := rand.NewZipf(r, 1.1, 5, uint64(v-1))
	for i := range n {
		class := r.Int64N(int64(d.Classes))
		rows.labels[i] = class
		length := d.Length
		if i%d.Batch > 0 { // the first text of each batch fills it
			length = min(d.Length, max(4, int(float64(d.Length)*(0.6+0.2*r.NormFloat64()))))
		}
		for j := range length {
			id := int64(zipf.Uint64())
			if r.IntN(3) == 0 {
				id = (id*7 + 1 + class*v/int64(d.Classes)) % v
			}
			rows.ids[i*d.Length+j], rows.mask[i*d.Length+j] = id, 1
		}
	}
	return rows
}

// write stores what both sides read.
func (d duel) write(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	store := func(name string, data []byte, err error) {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	config, err := json.Marshal(d)
	store("duel.json", config, err)
	m, err := d.model()
	if err != nil {
		t.Fatal(err)
	}
	type place struct {
		Name string  `json:"name"`
		Dims []int64 `json:"dims"`
	}
	var places []place
	var weights []byte
	for _, name := range objective.Trainable(m) {
		w := m.Graph.Initializer(name)
		values, _ := w.Floats()
		view, err := session.New(values, w.Dims...)
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, place{name, w.Dims})
		weights = append(weights, view.Bytes()...)
	}
	list, err := json.Marshal(places)
	store("weights.json", list, err)
	store("weights.bin", weights, nil)
	rows := d.rows()
	for name, x := range map[string][]int64{"ids": rows.ids, "mask": rows.mask, "labels": rows.labels} {
		view, err := session.New(x, int64(len(x)))
		if err != nil {
			t.Fatal(err)
		}
		store(name+".bin", view.Bytes(), nil)
	}
	return dir
}

// feed is the inputs of a step as the engine's loop makes them.
func (d duel) feed(rows duelRows, step int) (feed, error) {
	f := feed{inputs: map[string]*session.Tensor{}, stream: uint64(step)}
	b, n := int64(d.Batch), int64(d.Length)
	f.symbols = map[string]int64{"batch": b, "length": n}
	at := step % d.Batches * d.Batch
	for name, x := range map[string][]int64{architecture.InputIDs: rows.ids, architecture.AttentionMask: rows.mask} {
		view, err := session.New(x[at*d.Length:(at+d.Batch)*d.Length], b, n)
		if err != nil {
			return f, err
		}
		f.inputs[name] = view
	}
	classes := objective.Classes{Smoothing: d.Recipe.LabelSmoothing}
	for range d.Classes {
		classes.Weights = append(classes.Weights, 1)
	}
	var labels []int
	for _, y := range rows.labels[at : at+d.Batch] {
		labels = append(labels, int(y))
	}
	targets, err := session.Zeros[float32](b, int64(d.Classes))
	if err != nil {
		return f, err
	}
	classes.Fill(session.Data[float32](targets), labels, classes.Mass(labels))
	f.inputs[objective.Targets] = targets
	return f, nil
}

// A report is what a side answers after some steps.
type report struct {
	Seconds   float64   `json:"seconds"`
	Processor float64   `json:"processor"`
	Losses    []float64 `json:"losses"`
}

const workerFolder = "GALLEY_DUEL"

// TestPeerWorker is the engine's side of a duel: this test binary in a
// process of its own.
func TestPeerWorker(t *testing.T) {
	dir := os.Getenv(workerFolder)
	if dir == "" {
		t.Skip("is run by the tests that need a process of their own")
	}
	config, err := os.ReadFile(filepath.Join(dir, "duel.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d duel
	if err := json.Unmarshal(config, &d); err != nil {
		t.Fatal(err)
	}
	m, err := d.model()
	if err != nil {
		t.Fatal(err)
	}
	if m, err = objective.Classification(m, 0); err != nil {
		t.Fatal(err)
	}
	l, err := newLearner(t.Context(), orttest.Opener(t), m, d.Recipe, lookedUp(m), d.Threads)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	rows, step := d.rows(), 0
	train := func(n int) (losses []float64) {
		for range n {
			f, err := d.feed(rows, step)
			if err != nil {
				t.Fatal(err)
			}
			rate := d.Recipe.Optimizer.LR * d.Recipe.Schedule.At(step, d.Steps)
			loss, _, err := l.step(context.Background(), []feed{f}, d.Recipe.Seed, rate, d.Recipe.ClipNorm)
			if err != nil {
				t.Fatal(err)
			}
			losses = append(losses, loss)
			step++
		}
		return losses
	}
	out := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		begin, processor := time.Now(), processorTime(t)
		r := report{Losses: train(n)}
		r.Seconds, r.Processor = time.Since(begin).Seconds(), processorTime(t)-processor
		if err := out.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
}

// processorTime is the seconds of all processors that this process has used.
func processorTime(t testing.TB) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	seconds := func(v syscall.Timeval) float64 { return float64(v.Sec) + 1e-6*float64(v.Usec) }
	return seconds(u.Utime) + seconds(u.Stime)
}

// A side is one of a duel's processes.
type side struct {
	t       testing.TB
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *json.Decoder
}

func start(t testing.TB, cmd *exec.Cmd) *side {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _, _ = io.Copy(io.Discard, out); _ = cmd.Wait() })
	return &side{t, cmd, in, json.NewDecoder(out)}
}

// engineSide starts the engine's process for the duel in dir.
func engineSide(t testing.TB, dir string) *side {
	t.Helper()
	orttest.Opener(t) // obtained here, where a skip is seen
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestPeerWorker$")
	cmd.Env = append(os.Environ(), workerFolder+"="+dir)
	return start(t, cmd)
}

// peerSide starts PyTorch's.
func peerSide(t testing.TB, dir string) *side {
	t.Helper()
	return start(t, exec.Command(peerPython(t), "testdata/text_encoder.py", dir))
}

func peerPython(t testing.TB) string {
	t.Helper()
	path := os.Getenv("GALLEY_PEERS_PYTHON")
	if path == "" {
		t.Skip("GALLEY_PEERS_PYTHON names no Python with PyTorch")
	}
	return path
}

// train runs n steps.
func (s *side) train(n int) report {
	s.t.Helper()
	var r report
	if _, err := fmt.Fprintln(s.in, n); err != nil {
		s.t.Fatal(err)
	}
	if err := s.answers.Decode(&r); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// peakMemory is the most that the process has had in memory, in bytes.
func (s *side) peakMemory() int64 {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Skipf("this system does not tell a process's peak memory: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.Fields(kb)[0], 10, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return n << 10
		}
	}
	s.t.Skip("this system does not tell a process's peak memory")
	return 0
}

// compareCurves trains both sides to the end and holds the loss of every
// step to a thousandth of PyTorch's.
func compareCurves(t *testing.T, d duel) {
	t.Helper()
	peerPython(t)
	dir := d.write(t)
	ours, theirs := engineSide(t, dir).train(d.Steps), peerSide(t, dir).train(d.Steps)
	worst, at := 0.0, 0
	for i, want := range theirs.Losses {
		if off := math.Abs(ours.Losses[i]-want) / want; !(off <= worst) {
			worst, at = off, i
		}
	}
	t.Logf("loss of %d steps: %.4f to %.4f, PyTorch %.4f to %.4f; largest difference %.1e of PyTorch's, at step %d; %.1f s and %.1f s",
		d.Steps, ours.Losses[0], ours.Losses[d.Steps-1], theirs.Losses[0], theirs.Losses[d.Steps-1], worst, at+1,
		ours.Seconds, theirs.Seconds)
	if !(worst <= 1e-3) {
		t.Errorf("step %d: loss %v, PyTorch's is %v", at+1, ours.Losses[at], theirs.Losses[at])
	}
	if last := theirs.Losses[d.Steps-1]; last > 0.8*theirs.Losses[0] {
		t.Errorf("the loss went from %v to %v: too little to compare", theirs.Losses[0], last)
	}
}

func TestPeerLossCurve(t *testing.T) { compareCurves(t, smallDuel(200)) }

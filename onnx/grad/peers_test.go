//go:build peers

package grad_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"galley/internal/ort/orttest"
	"galley/onnx"
	"galley/onnx/grad"
	"galley/onnx/session"
)

// python returns the interpreter that has PyTorch.
func python(t testing.TB) string {
	t.Helper()
	path := os.Getenv("GALLEY_PEERS_PYTHON")
	if path == "" {
		t.Skip("GALLEY_PEERS_PYTHON names no Python with torch and onnx")
	}
	return path
}

// A trial is a model with a loss and a batch for it.
type trial struct {
	model *onnx.Model
	loss  string
	feeds map[string]*session.Tensor
	rows  []string
}

// textBatch makes token ids and a mask with texts of different lengths.
func textBatch(t testing.TB, rng *rand.Rand, batch, length, vocabulary int) map[string]*session.Tensor {
	ids, mask := make([]int64, batch*length), make([]int64, batch*length)
	for b := range batch {
		n := length - rng.IntN(length/4)
		for s := range n {
			ids[b*length+s], mask[b*length+s] = rng.Int64N(int64(vocabulary)), 1
		}
	}
	return map[string]*session.Tensor{
		"input_ids":      must(t, ids, batch, length),
		"attention_mask": must(t, mask, batch, length),
	}
}

func must[T session.Number](t testing.TB, data []T, dims ...int) *session.Tensor {
	t.Helper()
	shape := make([]int64, len(dims))
	for i, d := range dims {
		shape[i] = int64(d)
	}
	out, err := session.New(data, shape...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// classifierTrial is the text encoder with mean pooling and a classifier.
func classifierTrial(t testing.TB) trial {
	rng := rand.New(rand.NewPCG(7, 7))
	feeds := textBatch(t, rng, batchSize, length, vocabulary)
	targets := make([]float32, batchSize*classes)
	for i := range batchSize {
		targets[i*classes+rng.IntN(classes)] = 1.0 / batchSize
	}
	feeds["targets"] = must(t, targets, batchSize, classes)
	return trial{classifier(), "loss", feeds, []string{"embeddings.tokens"}}
}

// maskedTrial is the text encoder with the tied decoder, 15 % of the tokens
// masked.
func maskedTrial(t testing.TB) trial {
	rng := rand.New(rand.NewPCG(7, 7))
	feeds := textBatch(t, rng, batchSize, length, vocabulary)
	var positions, targets []int64
	var weights []float32
	for i := range batchSize * length {
		if rng.Float64() < 0.15 {
			positions, targets = append(positions, int64(i)), append(targets, rng.Int64N(vocabulary))
		}
	}
	for range positions {
		weights = append(weights, 1/float32(len(positions)))
	}
	feeds["positions"] = must(t, positions, len(positions))
	feeds["targets"] = must(t, targets, len(targets))
	feeds["weights"] = must(t, weights, len(weights))
	return trial{maskedLM(), "loss", feeds, []string{"embeddings.tokens"}}
}

// write stores the trial for Python and returns the model's path.
func (tr trial) write(t testing.TB, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "model.onnx")
	if err := onnx.WriteFile(path, tr.model, onnx.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	for name, x := range tr.feeds {
		kind := map[onnx.DataType]string{onnx.Float: "float32", onnx.Int64: "int64"}[x.Type]
		fmt.Fprintln(&list, name, kind, strings.Trim(fmt.Sprint(x.Shape), "[]"))
		if err := os.WriteFile(filepath.Join(dir, name+".bin"), x.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "inputs.txt"), []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// trainable lists the floating-point initializers of more than one element.
func trainable(m *onnx.Model) []string {
	var names []string
	for _, w := range m.Graph.Initializers {
		if w.Type.IsFloat() && w.Size() > 1 {
			names = append(names, w.Name)
		}
	}
	return names
}

// open differentiates the trial and makes its session and feeds.
func (tr trial) open(t testing.TB, threads int) (*grad.Training, session.Session, map[string]*session.Tensor) {
	t.Helper()
	training, err := grad.Differentiate(tr.model, grad.Options{Loss: tr.loss, Wrt: trainable(tr.model), RowGradients: tr.rows})
	if err != nil {
		t.Fatal(err)
	}
	data, err := onnx.Marshal(training.Model)
	if err != nil {
		t.Fatal(err)
	}
	if path := os.Getenv("GALLEY_GRAD_DUMP"); path != "" {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := orttest.Opener(t).Open(context.Background(), data, session.Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	feeds := map[string]*session.Tensor{}
	for name, x := range tr.feeds {
		feeds[name] = x
	}
	for _, w := range tr.model.Graph.Initializers {
		if _, ok := training.Gradients[w.Name]; !ok {
			continue
		}
		values, _ := w.Floats()
		x, err := session.New(values, w.Dims...)
		if err != nil {
			t.Fatal(err)
		}
		feeds[w.Name] = x
	}
	return training, s, feeds
}

// comparePyTorch compares every gradient with PyTorch's, to 1e-4 of the
// tensor's largest value.
func comparePyTorch(t *testing.T, tr trial) {
	interpreter := python(t)
	dir := t.TempDir()
	model := tr.write(t, dir)
	out, err := exec.Command(interpreter, "testdata/gradients.py", model, tr.loss, dir).Output()
	if err != nil {
		if e, ok := err.(*exec.ExitError); ok {
			t.Fatalf("%v\n%s", err, e.Stderr)
		}
		t.Fatal(err)
	}
	training, s, feeds := tr.open(t, 2)
	got, err := s.Run(context.Background(), feeds)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("loss: ours %v, PyTorch %s", floats(got[tr.loss])[0], strings.TrimSpace(string(out)))
	names, err := os.ReadFile(filepath.Join(dir, "names.txt"))
	if err != nil {
		t.Fatal(err)
	}
	dimsOf := map[string][]int64{}
	for _, w := range tr.model.Graph.Initializers {
		dimsOf[w.Name] = w.Dims
	}
	compared, worst, worstName := 0, 0.0, ""
	for line := range strings.Lines(string(names)) {
		i, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		data, err := os.ReadFile(filepath.Join(dir, "grad."+i+".bin"))
		if err != nil {
			t.Fatal(err)
		}
		g, ok := training.Gradients[name]
		if !ok {
			t.Errorf("%s has a gradient in PyTorch and none here", name)
			continue
		}
		ours := dense(t, g, got, dimsOf[name])
		largest, difference := 0.0, 0.0
		for j, v := range ours {
			want := float64(math.Float32frombits(binary.LittleEndian.Uint32(data[4*j:])))
			largest = math.Max(largest, math.Abs(want))
			difference = math.Max(difference, math.Abs(v-want))
		}
		compared++
		// A bias of keys shifts all scores of a row alike: its gradient is
		// rounding error around zero, here and there.
		if strings.HasSuffix(name, "key.bias") {
			if largest > 1e-5 {
				t.Errorf("gradient of %s should vanish, its largest value is %.2g", name, largest)
			}
			continue
		}
		if difference > 1e-4*largest {
			t.Errorf("gradient of %s is off by %.2g of its largest value %.2g", name, difference/largest, largest)
		}
		if difference/largest > worst {
			worst, worstName = difference/largest, name
		}
	}
	if compared != len(training.Gradients) {
		t.Errorf("%d gradients here, %d in PyTorch", len(training.Gradients), compared)
	}
	t.Logf("%d gradients, the worst off by %.2g of its largest value (%s)", compared, worst, worstName)
}

func TestPeerTextEncoder(t *testing.T) {
	t.Run("classifier", func(t *testing.T) { comparePyTorch(t, classifierTrial(t)) })
	t.Run("masked language model", func(t *testing.T) { comparePyTorch(t, maskedTrial(t)) })
}

// TestPeerTextEncoderRepeatable runs a step of the text encoder several times on
// two threads: all gradients are the same bit for bit.
func TestPeerTextEncoderRepeatable(t *testing.T) {
	tr := maskedTrial(t)
	_, s, feeds := tr.open(t, 2)
	first := map[string][]byte{}
	for range 4 {
		got, err := s.Run(context.Background(), feeds)
		if err != nil {
			t.Fatal(err)
		}
		for name, x := range got {
			if before, ok := first[name]; !ok {
				first[name] = bytes.Clone(x.Bytes())
			} else if !bytes.Equal(before, x.Bytes()) {
				t.Errorf("%s differs from run to run", name)
			}
			x.Close()
		}
	}
}

// A stepper runs forward and backward n times and returns the seconds and the
// seconds of processor time it took.
type stepper func(n int) (wall, processor float64)

// processorTime is what this process has used so far.
func processorTime(t testing.TB) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	seconds := func(v syscall.Timeval) float64 { return float64(v.Sec) + 1e-6*float64(v.Usec) }
	return seconds(u.Utime) + seconds(u.Stime)
}

func (tr trial) ours(t testing.TB, threads int) stepper {
	training, s, feeds := tr.open(t, threads)
	first, err := s.Run(context.Background(), feeds)
	if err != nil {
		t.Fatal(err)
	}
	binding, err := s.Bind()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { binding.Close() })
	for name, x := range feeds {
		if err := binding.Input(name, x); err != nil {
			t.Fatal(err)
		}
	}
	outputs := map[string]*session.Tensor{}
	for name, x := range first {
		if x.Type == onnx.Int64 {
			outputs[name] = must(t, make([]int64, x.Size()), int(x.Size()))
		} else {
			out, err := session.Zeros[float32](x.Shape...)
			if err != nil {
				t.Fatal(err)
			}
			outputs[name] = out
		}
		if err := binding.Output(name, outputs[name]); err != nil {
			t.Fatal(err)
		}
	}
	tables := map[string][]float32{}
	for _, name := range tr.rows {
		tables[name] = make([]float32, feeds[name].Size())
	}
	return func(n int) (float64, float64) {
		begin, processor := time.Now(), processorTime(t)
		for range n {
			if err := binding.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			for name, sum := range tables {
				addRows(sum, training.Gradients[name], outputs)
			}
		}
		return time.Since(begin).Seconds(), processorTime(t) - processor
	}
}

// addRows makes the dense gradient of a table, as PyTorch does.
func addRows(sum []float32, g grad.Gradient, outputs map[string]*session.Tensor) {
	if g.Dense != "" {
		copy(sum, session.Data[float32](outputs[g.Dense]))
	} else {
		clear(sum)
	}
	for _, r := range g.Rows {
		rows := session.Data[float32](outputs[r.Rows])
		indices := session.Data[int64](outputs[r.Indices])
		if len(indices) == 0 {
			continue
		}
		width := len(rows) / len(indices)
		for i, at := range indices {
			to := sum[int(at)*width:][:width]
			for k, v := range rows[i*width:][:width] {
				to[k] += v
			}
		}
	}
}

// peer starts a Python process that steps on command.
func (tr trial) peer(t testing.TB, threads int) stepper {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(python(t), "testdata/text_encoder.py", tr.write(t, dir), dir, fmt.Sprint(threads))
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
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	answers := bufio.NewReader(out)
	return func(n int) (wall, processor float64) {
		if _, err := io.WriteString(in, fmt.Sprintln(n)); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fscanln(answers, &wall, &processor); err != nil {
			t.Fatal(err)
		}
		return wall, processor
	}
}

// TestBenchGradients reports the ratio of PyTorch's time to ours for
// forward and backward of the text encoder; both processes exist throughout
// and take turns. On a machine that does other work too, the processor time
// on one thread tells more than the wall's clock on two.
func TestBenchGradients(t *testing.T) {
	const repeats, steps = 9, 3
	for _, c := range []struct {
		name string
		make func(testing.TB) trial
	}{{"classifier", classifierTrial}, {"masked language model", maskedTrial}} {
		for _, threads := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, threads %d", c.name, threads), func(t *testing.T) {
				tr := c.make(t)
				ours, peer := tr.ours(t, threads), tr.peer(t, threads)
				ours(2)
				peer(2)
				var walls, processors, mine, theirs []float64
				for range repeats {
					peerWall, peerProcessor := peer(steps)
					wall, processor := ours(steps)
					walls, processors = append(walls, peerWall/wall), append(processors, peerProcessor/processor)
					mine, theirs = append(mine, 1000*processor/steps), append(theirs, 1000*peerProcessor/steps)
				}
				for _, x := range [][]float64{walls, processors, mine, theirs} {
					slices.Sort(x)
				}
				t.Logf("PyTorch's time / ours: wall %.3f (%.3f to %.3f), processor %.3f (%.3f to %.3f): ours %.0f ms, PyTorch %.0f ms a step",
					walls[repeats/2], walls[0], walls[repeats-1],
					processors[repeats/2], processors[0], processors[repeats-1], mine[repeats/2], theirs[repeats/2])
			})
		}
	}
}

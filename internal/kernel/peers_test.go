//go:build peers

package kernel

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// torchScript reads weights and gradients as float32 numbers, takes steps of
// torch.optim.AdamW, and writes the weights after each step. With a fourth
// argument it then times fused steps whenever a line arrives on stdin.
const torchScript = `
import sys, time, torch
torch.set_num_threads(2)
src, dst, n, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
data = torch.frombuffer(bytearray(open(src, "rb").read()), dtype=torch.float32).clone()
w = torch.nn.Parameter(data[:n].clone())
fused = len(sys.argv) > 5
opt = torch.optim.AdamW([w], lr=3e-3, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01, fused=fused, foreach=False)
with open(dst, "wb") as out:
    for s in range(steps):
        w.grad = data[n*(s+1):n*(s+2)].clone()
        opt.step()
        out.write(w.detach().numpy().tobytes())
print("ready", flush=True)
if fused:
    for line in sys.stdin:
        begin = time.perf_counter()
        opt.step()
        print(time.perf_counter() - begin, flush=True)
`

func peerPython(t testing.TB) string {
	python := os.Getenv("GALLEY_PEERS_PYTHON")
	if python == "" {
		t.Skip("GALLEY_PEERS_PYTHON names no Python with PyTorch")
	}
	return python
}

func writeFloats(t testing.TB, path string, x []float32) {
	data := make([]byte, 0, 4*len(x))
	for _, f := range x {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(f))
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPeerAdamW(t *testing.T) {
	const n, steps = 4099, 20
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	data := normal(5, n*(steps+1))
	writeFloats(t, src, data)
	for _, args := range [][]string{nil, {"fused"}} {
		cmd := exec.Command(peerPython(t), append([]string{"-c", torchScript, src, dst, fmt.Sprint(n), fmt.Sprint(steps)}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		got, err := os.ReadFile(dst)
		if err != nil || len(got) != 4*n*steps {
			t.Fatalf("PyTorch wrote %d bytes, %v", len(got), err)
		}
		w, m, v := slices.Clone(data[:n]), make([]float32, n), make([]float32, n)
		worst := 0.0
		for step := range steps {
			AdamW(w, data[n*(step+1):n*(step+2)], m, v,
				AdamWParams{LR: 3e-3, Beta1: 0.9, Beta2: 0.98, Eps: 1e-8, WeightDecay: 0.01, Step: step + 1}, 2)
			for i := range w {
				want := math.Float32frombits(binary.LittleEndian.Uint32(got[4*(n*step+i):]))
				worst = max(worst, math.Abs(float64(w[i]-want))/(1+math.Abs(float64(want))))
			}
		}
		t.Logf("PyTorch %v: largest difference after %d steps %.2g", args, steps, worst)
		if worst > 5e-7 {
			t.Errorf("PyTorch %v differs by %g", args, worst)
		}
	}
}

// TestBenchAdamW alternates steps of both, so that load on the machine meets
// both alike; it reports and does not judge.
func TestBenchAdamW(t *testing.T) {
	if testing.Short() {
		t.Skip("timing is not for short runs")
	}
	const n = benchSize
	dir := t.TempDir()
	src := filepath.Join(dir, "in")
	data := normal(5, 2*n)
	writeFloats(t, src, data)
	cmd := exec.Command(peerPython(t), "-c", torchScript, src, filepath.Join(dir, "out"), fmt.Sprint(n), "1", "fused")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	var word string
	if _, err := fmt.Fscan(out, &word); err != nil || word != "ready" {
		t.Fatalf("PyTorch: %q %v", word, err)
	}
	w, g, m, v := data[:n], data[n:], make([]float32, n), make([]float32, n)
	var ours, theirs []float64
	for range 60 {
		fmt.Fprintln(in)
		var seconds float64
		if _, err := fmt.Fscan(out, &seconds); err != nil {
			t.Fatal(err)
		}
		theirs = append(theirs, seconds*1e3)
		begin := time.Now()
		AdamW(w, g, m, v, AdamWParams{LR: 3e-3, Beta1: 0.9, Beta2: 0.98, Eps: 1e-8, WeightDecay: 0.01, Step: len(ours) + 1}, 2)
		ours = append(ours, time.Since(begin).Seconds()*1e3)
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	t.Logf("AdamW of %d weights on 2 threads, least and median ms: galley %.2f %.2f, PyTorch fused %.2f %.2f",
		n, ours[0], ours[30], theirs[0], theirs[30])
}

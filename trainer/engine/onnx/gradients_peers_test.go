//go:build peers

package onnx

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"galley/internal/ort/orttest"
	graph "galley/onnx"
	"galley/onnx/session"
	"galley/trainer"
	"galley/trainer/architecture"
	"galley/trainer/objective"
)

// sharedModel returns the path of a model in the shared data, or skips.
func sharedModel(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; filepath.Dir(dir) != dir; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			path := filepath.Join(dir, "..", "shared", "data", "models", name)
			if _, err := os.Stat(path); err != nil {
				t.Skipf("the shared data has no %s", name)
			}
			return path
		}
	}
	t.Skip("no go.mod above the test")
	return ""
}

func writeFloats(t testing.TB, path string, x []float32) {
	t.Helper()
	data := make([]byte, 0, 4*len(x))
	for _, v := range x {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFloats(t testing.TB, path string) []float32 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float32, len(data)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return out
}

// TestPeerMiniLMGradients compares each gradient that fine-tuning the shared
// MiniLM starts with, its head replaced, with PyTorch's for the same graph.
func TestPeerMiniLMGradients(t *testing.T) {
	python := peerPython(t)
	m, err := graph.ReadFile(sharedModel(t, "all-minilm-l6-v2/model.onnx"), graph.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const batch, length, classes = 4, 17, 4
	if m, err = architecture.Adopt(m, architecture.AdoptOptions{Classes: classes, Seed: 3}); err == nil {
		m, err = objective.Classification(m, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(5, 6))
	ids, mask := make([]int64, batch*length), make([]int64, batch*length)
	labels := make([]int, batch)
	for i := range batch {
		labels[i] = i % classes
		for j := range length - 3*i {
			ids[i*length+j], mask[i*length+j] = r.Int64N(30000), 1
		}
	}
	c := objective.Classes{Weights: []float64{1, 2, 0.5, 1}, Smoothing: 0.1}
	targets := make([]float32, batch*classes)
	c.Fill(targets, labels, c.Mass(labels))
	f := feed{inputs: map[string]*session.Tensor{}}
	dir := t.TempDir()
	var list strings.Builder
	input := func(name, kind string, x *session.Tensor, err error) {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name+".bin"), x.Bytes(), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.inputs[name] = x
		fmt.Fprintln(&list, name, kind, strings.Trim(fmt.Sprint(x.Shape), "[]"))
	}
	x, err := session.New(ids, batch, length)
	input("input_ids", "int64", x, err)
	x, err = session.New(mask, batch, length)
	input("attention_mask", "int64", x, err)
	x, err = session.Zeros[int64](batch, length)
	input("token_type_ids", "int64", x, err)
	x, err = session.New(targets, batch, classes)
	input(objective.Targets, "float32", x, err)
	if err := os.WriteFile(filepath.Join(dir, "inputs.txt"), []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "model.onnx")
	if err := graph.WriteFile(path, m, graph.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "../../../onnx/grad/testdata/gradients.py", path, objective.Loss, dir)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	theirs := map[string][]float32{}
	names, err := os.ReadFile(filepath.Join(dir, "names.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(names)) {
		i, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		theirs[name] = readFloats(t, filepath.Join(dir, "grad."+i+".bin"))
	}

	l, err := newLearner(t.Context(), orttest.Opener(t), m, trainer.Recipe{}, lookedUp(m), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if _, err := l.gradient(t.Context(), f, 1); err != nil {
		t.Fatal(err)
	}
	if len(l.params.list) != len(theirs) {
		t.Errorf("%d weights are trained, %d in PyTorch", len(l.params.list), len(theirs))
	}
	worst, worstName := 0.0, ""
	for _, p := range l.params.list {
		want, ok := theirs[p.name]
		if !ok || len(want) != p.end-p.begin {
			t.Errorf("%s has %d numbers, %d in PyTorch", p.name, p.end-p.begin, len(want))
			continue
		}
		largest, off := 0.0, 0.0
		for i, v := range l.params.grads[p.begin:p.end] {
			largest = math.Max(largest, math.Abs(float64(want[i])))
			off = math.Max(off, math.Abs(float64(v-want[i])))
		}
		// A bias of keys shifts all scores of a row alike: its gradient is
		// rounding error around zero, here and there.
		if strings.HasSuffix(p.name, "key.bias") {
			if largest > 1e-6 || off > 1e-6 {
				t.Errorf("%s should have no gradient: %.2g", p.name, largest)
			}
			continue
		}
		if !(off <= 1e-4*largest) || largest == 0 {
			t.Errorf("%s is off by %.2g, its largest value is %.2g", p.name, off, largest)
		}
		if off/largest > worst {
			worst, worstName = off/largest, p.name
		}
	}
	t.Logf("%d gradients; the worst is off by %.2g of its largest value (%s)", len(l.params.list), worst, worstName)
}

// torchClip clips the gradients in argv[1], whose sizes are the arguments
// after the bound, as if each were a parameter's, and writes them back.
const torchClip = `
import sys, numpy as np, torch
data = torch.from_numpy(np.fromfile(sys.argv[1], dtype=np.float32))
parameters = []
for g in data.split([int(n) for n in sys.argv[3:]]):
    p = torch.nn.Parameter(torch.zeros_like(g))
    p.grad = g.clone()
    parameters.append(p)
print(torch.nn.utils.clip_grad_norm_(parameters, float(sys.argv[2])).item())
torch.cat([p.grad for p in parameters]).numpy().tofile(sys.argv[1])
`

func TestPeerClipping(t *testing.T) {
	python := peerPython(t)
	texts, labels := testRows(2, 8)
	f := []feed{testFeed(t, texts, labels, uneven, uneven.Mass(labels), 0)}
	for _, clip := range []float64{0.01, 1e6} {
		l := testLearner(t, 0, testRecipe())
		_, norm := mustStep(t, l, f, 1e-2, clip)
		path := filepath.Join(t.TempDir(), "gradients")
		var grads, moments []float32
		args := []string{"-c", torchClip, path, fmt.Sprint(clip)}
		for _, p := range l.params.list {
			grads, moments = append(grads, l.params.grads[p.begin:p.end]...), append(moments, l.params.m[p.begin:p.end]...)
			args = append(args, fmt.Sprint(p.end-p.begin))
		}
		writeFloats(t, path, grads)
		out, err := exec.Command(python, args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		var want float64
		if _, err := fmt.Sscan(string(out), &want); err != nil {
			t.Fatal(err)
		}
		if math.Abs(norm-want) > 1e-6*want {
			t.Errorf("norm %v, PyTorch %v", norm, want)
		}
		clipped := readFloats(t, path)
		for i := range clipped {
			clipped[i] *= 0.1 // the first moment after one step
		}
		closeTo(t, fmt.Sprintf("gradients clipped to %v", clip), moments, clipped, 1e-5)
	}
}

//go:build peers

package grad_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"galley/onnx"
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

// TestPeerMiniLM compares every gradient of an exported encoder, of
// a loss over both its outputs.
func TestPeerMiniLM(t *testing.T) {
	m, err := onnx.ReadFile(sharedModel(t, "all-minilm-l6-v2/model.onnx"), onnx.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const batch, length, width = 3, 11, 384
	rng := rand.New(rand.NewPCG(5, 5))
	feeds := textBatch(t, rng, batch, length, 30000)
	feeds["token_type_ids"] = must(t, make([]int64, batch*length), batch, length)
	// Random directions make a loss that every element matters to.
	b := onnx.NewBuilder(m.Graph)
	direction := func(name string, dims ...int) string {
		n := 1
		for _, d := range dims {
			n *= d
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		feeds[name] = must(t, x, dims...)
		return b.Input(name, onnx.Float, onnx.Fixed(feeds[name].Shape...))
	}
	sum := func(x string) string { return b.OpAttrs("ReduceSum", attrs{"keepdims": int64(0)}, x) }
	loss := b.Op("Add",
		sum(b.Op("Mul", "last_hidden_state", direction("states", batch, length, width))),
		sum(b.Op("Mul", "sentence_embedding", direction("embedding", batch, width))))
	b.Output(loss, onnx.Float, onnx.Shape{})
	comparePyTorch(t, trial{m, loss, feeds, []string{"bert.embeddings.word_embeddings.weight"}})
}

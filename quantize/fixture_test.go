package quantize

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"galley/internal/ort/orttest"
	"galley/onnx"
	"galley/onnx/session"
)

// normal draws n numbers.
func normal(r *rand.Rand, n int, deviation float64) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.NormFloat64() * deviation)
	}
	return out
}

const width = 64

// textModel reads ids [batch,length] through a table, two products and a Gemm.
func textModel() *onnx.Model {
	r := rand.New(rand.NewPCG(7, 7))
	g := &onnx.Graph{Name: "text"}
	b := onnx.NewBuilder(g)
	ids := b.Input("ids", onnx.Int64, onnx.Shape{onnx.Symbol("batch"), onnx.Symbol("length")})
	table := b.Weight(onnx.NewFloat("table", normal(r, 100*width, 1), 100, width))
	x := b.Op("Gather", table, ids)
	q := b.Op("MatMul", x, b.Weight(onnx.NewFloat("query", normal(r, width*width, .1), width, width)))
	k := b.Op("MatMul", x, b.Weight(onnx.NewFloat("key", normal(r, width*width, .1), width, width)))
	x = b.Op("Add", b.Op("Relu", q), b.Op("Tanh", k))
	x = b.OpAttrs("ReduceMean", map[string]onnx.Attr{"keepdims": int64(0)}, x, b.Ints(1))
	up := b.Weight(onnx.NewFloat("up", normal(r, width*width, .1), width, width))
	bias := b.Weight(onnx.NewFloat("bias", normal(r, width, .1), width))
	b.OpAttrs("Gemm", map[string]onnx.Attr{"transB": int64(1), "alpha": float32(2)}, x, up, bias)
	g.Nodes[len(g.Nodes)-1].Outputs[0] = "logits"
	b.Output("logits", onnx.Float, onnx.Shape{onnx.Symbol("batch"), {Size: width}})
	return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": 20}, Graph: g}
}

// imageModel is two convolutions over image [batch,16,8,8].
func imageModel() *onnx.Model {
	r := rand.New(rand.NewPCG(8, 8))
	g := &onnx.Graph{Name: "image"}
	b := onnx.NewBuilder(g)
	x := b.Input("image", onnx.Float, onnx.Shape{onnx.Symbol("batch"), {Size: 16}, {Size: 8}, {Size: 8}})
	first := b.Weight(onnx.NewFloat("first", normal(r, 32*16*9, .1), 32, 16, 3, 3))
	bias := b.Weight(onnx.NewFloat("first.bias", normal(r, 32, .1), 32))
	x = b.OpAttrs("Conv", map[string]onnx.Attr{"pads": []int64{1, 1, 1, 1}}, x, first, bias)
	x = b.Op("Relu", x)
	second := b.Weight(onnx.NewFloat("second", normal(r, 16*32*9, .1), 16, 32, 3, 3))
	b.OpAttrs("Conv", map[string]onnx.Attr{"strides": []int64{2, 2}}, x, second)
	g.Nodes[len(g.Nodes)-1].Outputs[0] = "features"
	b.Output("features", onnx.Float, nil)
	return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": 20}, Graph: g}
}

// textBatches are n batches of ids.
func textBatches(t testing.TB, n int) Batches {
	return func(yield func(map[string]*session.Tensor, error) bool) {
		r := rand.New(rand.NewPCG(9, 9))
		for range n {
			ids := make([]int64, 4*10)
			for i := range ids {
				ids[i] = r.Int64N(100)
			}
			if !yield(map[string]*session.Tensor{"ids": tensor(t, ids, 4, 10)}, nil) {
				return
			}
		}
	}
}

// imageBatches are n batches of images.
func imageBatches(t testing.TB, n int) Batches {
	return func(yield func(map[string]*session.Tensor, error) bool) {
		r := rand.New(rand.NewPCG(10, 10))
		for range n {
			x := tensor(t, normal(r, 2*16*64, 1), 2, 16, 8, 8)
			if !yield(map[string]*session.Tensor{"image": x}, nil) {
				return
			}
		}
	}
}

func tensor[T session.Number](t testing.TB, data []T, shape ...int64) *session.Tensor {
	t.Helper()
	x, err := session.New(data, shape...)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// answers runs batches through a model.
func answers(t testing.TB, m *onnx.Model, batches Batches) []float32 {
	t.Helper()
	s, err := open(t.Context(), orttest.Opener(t), m, 1, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var all []float32
	for batch, err := range batches {
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.Run(context.Background(), batch)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range s.Outputs() {
			all = append(all, session.Data[float32](out[v.Name])...)
			out[v.Name].Close()
		}
	}
	return all
}

// cosine is how alike two vectors point.
func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab += float64(a[i]) * float64(b[i])
		aa += float64(a[i]) * float64(a[i])
		bb += float64(b[i]) * float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}

// count counts a model's nodes by operator.
func count(m *onnx.Model) map[string]int {
	out := map[string]int{}
	for _, n := range m.Graph.Nodes {
		out[n.Op]++
	}
	return out
}

// quantized finds ranges if the method needs them, and applies it.
func quantized(t testing.TB, m *onnx.Model, o Options, batches Batches, search Search) (*onnx.Model, *Result) {
	t.Helper()
	if o.Method == Static {
		sites, _, err := Find(m, o)
		if err != nil {
			t.Fatal(err)
		}
		o.Ranges, err = Calibrate(t.Context(), orttest.Opener(t), m, Activations(m, sites), batches, Calibration{Search: search, Threads: 1}, o)
		if err != nil {
			t.Fatal(err)
		}
	}
	q, result, err := Apply(m, o)
	if err != nil {
		t.Fatal(err)
	}
	return q, result
}

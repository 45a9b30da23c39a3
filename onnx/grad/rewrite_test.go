package grad_test

import (
	"context"
	"math"
	"slices"
	"testing"

	"galley/internal/ort/orttest"
	"galley/onnx"
	"galley/onnx/grad"
	"galley/onnx/session"

	"pgregory.net/rapid"
)

// attention is softmax(q kᵀ * scale) with the heads taken apart, as exporters
// write it: the scale before or after the product.
func attentionScores(b *onnx.Builder, q, k string, before bool) string {
	q = b.OpAttrs("Transpose", attrs{"perm": []int64{0, 2, 1, 3}}, q)
	k = b.OpAttrs("Transpose", attrs{"perm": []int64{0, 2, 3, 1}}, k)
	if before {
		return b.Op("MatMul", b.Op("Mul", q, b.Float(0.5)), k)
	}
	return b.Op("Div", b.Op("MatMul", q, k), b.Float(2))
}

func decomposedGelu(b *onnx.Builder, x string, divide bool) string {
	z := ""
	if divide {
		z = b.Op("Div", x, b.Float(math.Sqrt2))
	} else {
		z = b.Op("Mul", x, b.Float(math.Sqrt2/2))
	}
	return b.Op("Mul", b.Op("Mul", x, b.Op("Add", b.Op("Erf", z), b.Float(1))), b.Float(0.5))
}

func TestRewrittenForms(t *testing.T) {
	property(t, "attention scores", func(rt *rapid.T) *fixture {
		shape := []int64{rapid.Int64Range(1, 2).Draw(rt, "batch"), 3, 2, 4}
		before := rapid.Bool().Draw(rt, "scale before")
		return &fixture{typ: onnx.Float, operands: []operand{{dims: shape}, {dims: shape}},
			build: func(b *onnx.Builder, in []string) string { return attentionScores(b, in[0], in[1], before) }}
	})
	property(t, "transposed matrix", func(rt *rapid.T) *fixture {
		rows := rapid.SampledFrom([][]int64{{3, 4}, {2, 3, 4}}).Draw(rt, "rows")
		return &fixture{typ: onnx.Float, operands: []operand{{dims: rows}, {dims: []int64{5, 4}}},
			build: func(b *onnx.Builder, in []string) string {
				return b.Op("MatMul", in[0], b.OpAttrs("Transpose", attrs{"perm": []int64{1, 0}}, in[1]))
			}}
	})
	property(t, "gelu", func(rt *rapid.T) *fixture {
		divide := rapid.Bool().Draw(rt, "divide")
		return &fixture{typ: onnx.Float, operands: []operand{{dims: dims(rt, 1, 2)}},
			build: func(b *onnx.Builder, in []string) string { return decomposedGelu(b, in[0], divide) }}
	})
}

// TestRewrites checks which operators are left, and that a value someone else
// reads keeps its meaning.
func TestRewrites(t *testing.T) {
	build := func() (*onnx.Model, string) {
		g := &onnx.Graph{Name: "test"}
		b := onnx.NewBuilder(g)
		q := b.Input("q", onnx.Float, onnx.Fixed(1, 3, 2, 4))
		k := b.Input("k", onnx.Float, onnx.Fixed(1, 3, 2, 4))
		y := decomposedGelu(b, attentionScores(b, q, k, false), true)
		loss := b.OpAttrs("ReduceSum", attrs{"keepdims": int64(0)}, y)
		b.Output(loss, onnx.Float, onnx.Shape{})
		return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": 20}, Graph: g}, loss
	}
	ops := func(m *onnx.Model) []string {
		var out []string
		for _, n := range m.Graph.Nodes {
			out = append(out, n.Op)
		}
		return out
	}
	m, loss := build()
	training, err := grad.Differentiate(m, grad.Options{Loss: loss, Wrt: []string{"q", "k"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := ops(training.Model)[:5]; !slices.Equal(got, []string{"Transpose", "Transpose", "FusedMatMul", "Gelu", "ReduceSum"}) {
		t.Errorf("the forward graph is %v", got)
	}

	product := "MatMul_out"
	training, err = grad.Differentiate(m, grad.Options{Loss: loss, Wrt: []string{"q", "k"}, Outputs: []string{product}})
	if err != nil {
		t.Fatal(err)
	}
	s := openModel(t, orttest.Opener(t), training.Model)
	defer s.Close()
	ones := make([]float32, 24)
	for i := range ones {
		ones[i] = 1
	}
	q, _ := session.New(ones, 1, 3, 2, 4)
	got, err := s.Run(context.Background(), map[string]*session.Tensor{"q": q, "k": q})
	if err != nil {
		t.Fatal(err)
	}
	if v := floats(got[product])[0]; v != 4 {
		t.Errorf("the product that is also an output is %v, want it unscaled: 4", v)
	}
}

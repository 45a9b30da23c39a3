package quantize

import (
	"math/rand/v2"
	"testing"

	"galley/onnx"
)

// TestStaticForms holds that a product takes the form that the runtime runs
// over integers, whatever follows it.
func TestStaticForms(t *testing.T) {
	for name, c := range map[string]struct {
		bias  float32
		swap  bool
		after string // instead of the bias
		flat  bool
		want  map[string]int
	}{
		"bias":            {bias: .3, flat: true, want: map[string]int{"Gemm": 1, "Add": 0, "MatMul": 0}},
		"bias first":      {bias: .3, swap: true, flat: true, want: map[string]int{"Gemm": 1, "Add": 0}},
		"bias of batches": {bias: .3, want: map[string]int{"MatMul": 1, "Add": 1, "Gemm": 0}},
		"huge bias":       {bias: 1e9, flat: true, want: map[string]int{"MatMulInteger": 1, "Add": 1, "MatMul": 0, "Gemm": 0}},
		"rectifier":       {after: "Relu", want: map[string]int{"MatMulInteger": 1, "Relu": 1, "MatMul": 0}},
		"other":           {after: "Tanh", flat: true, want: map[string]int{"MatMul": 1, "Tanh": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			m := textModel()
			b := onnx.NewBuilder(m.Graph)
			x := "Gather_out"
			if c.flat {
				x = "ReduceMean_out"
			}
			r := rand.New(rand.NewPCG(5, 5))
			y := b.Op("MatMul", x, b.Weight(onnx.NewFloat("more", normal(r, width*width, .1), width, width)))
			if c.after != "" {
				y = b.Op(c.after, y)
			} else {
				values := normal(r, width, .1)
				values[0] = c.bias
				bias := b.Weight(onnx.NewFloat("more.bias", values, width))
				if c.swap {
					y = b.Op("Add", bias, y)
				} else {
					y = b.Op("Add", y, bias)
				}
			}
			m.Graph.Outputs = nil
			b.Output(y, onnx.Float, nil)
			onnx.RemoveUnused(m.Graph)
			q, result := quantized(t, m, Options{Method: Static, FloatTables: true, Leave: map[string]bool{"MatMul_out": true, "MatMul_out_1": true}}, textBatches(t, 4), MinMax)
			got := count(q)
			for op, n := range c.want {
				if c.flat && op == "MatMul" {
					n += 2 // of the model, before
				}
				if c.flat && op == "Add" || c.flat && op == "Tanh" {
					n++
				}
				if got[op] != n {
					t.Errorf("%d nodes %s, not %d: %v", got[op], op, n, got)
				}
			}
			if len(result.Sites) != 1 {
				t.Errorf("%v, left %v", result.Sites, result.Left)
			}
			if like := cosine(answers(t, q, textBatches(t, 4)), answers(t, m, textBatches(t, 4))); like < .999 {
				t.Errorf("the answers' cosine is %v", like)
			}
		})
	}
}

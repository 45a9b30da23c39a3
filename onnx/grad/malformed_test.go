package grad_test

import (
	"strings"
	"testing"

	"galley/onnx"
	"galley/onnx/grad"
)

// TestMalformedNodes gives every operator too few inputs and odd shapes: an
// error or a graph may come out, but no panic.
func TestMalformedNodes(t *testing.T) {
	shapes := []onnx.Shape{nil, {}, onnx.Fixed(3), onnx.Fixed(2, 0), onnx.Fixed(2, 3, 4), {onnx.Symbol("n"), {Size: -1}}}
	for _, name := range grad.Operators() {
		domain, op := "", name
		if i := strings.LastIndex(name, "."); i >= 0 {
			domain, op = name[:i], name[i+1:]
		}
		for _, shape := range shapes {
			for inputs := range 5 {
				for _, at := range []attrs{nil, {"axis": int64(7)}, {"axis": int64(-1), "keepdims": int64(0), "batch_dims": int64(3), "perm": []int64{5, 0}, "axes": []int64{9}}} {
					g := &onnx.Graph{Name: "test"}
					b := onnx.NewBuilder(g)
					b.Input("x", onnx.Float, shape)
					b.Input("i", onnx.Int64, shape)
					n := &onnx.Node{Op: op, Domain: domain, Attrs: at, Outputs: []string{"y", "z"}}
					n.Inputs = []string{"x", "i", "x", "i"}[:inputs]
					g.Nodes = append(g.Nodes, n)
					loss := b.OpAttrs("ReduceSum", attrs{"keepdims": int64(0)}, "y")
					b.Output(loss, onnx.Float, onnx.Shape{})
					m := &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": 20, "com.microsoft": 1}, Graph: g}
					func() {
						defer func() {
							if r := recover(); r != nil {
								t.Errorf("%s with %d inputs of shape %v and attributes %v: panic: %v", name, inputs, shape, at, r)
							}
						}()
						_, _ = grad.Differentiate(m, grad.Options{Loss: loss, Wrt: []string{"x"}, RowGradients: []string{"x"}})
						_, _, _ = grad.TrainingDropout(m)
					}()
				}
			}
		}
	}
}

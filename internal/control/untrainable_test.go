package control

import (
	"slices"
	"testing"

	"galley/onnx"
)

// Only what stands between weights and outputs has to have a gradient.
func TestUntrainable(t *testing.T) {
	m := &onnx.Model{Opsets: map[string]int64{"": 17, "acme": 1}, Graph: &onnx.Graph{
		Inputs: []onnx.Value{{Name: "ids", Type: onnx.Int64, Shape: onnx.Shape{onnx.Symbol("n")}}},
		Initializers: []*onnx.Tensor{
			{Name: "buckets", Type: onnx.Int64, Data: make([]byte, 8)},
			{Name: "table", Type: onnx.Float, Dims: []int64{2, 2}, Data: make([]byte, 16)},
		},
		Nodes: []*onnx.Node{
			{Op: "Mod", Inputs: []string{"ids", "buckets"}, Outputs: []string{"hashed"}},
			{Op: "Gather", Inputs: []string{"table", "hashed"}, Outputs: []string{"rows"}},
			{Op: "Swirl", Domain: "acme", Inputs: []string{"rows"}, Outputs: []string{"out"}},
		},
		Outputs: []onnx.Value{{Name: "out", Type: onnx.Float}},
	}}
	if got := untrainable(m); !slices.Equal(got, []string{"acme.Swirl"}) {
		t.Errorf("untrainable: %q", got)
	}
	m.Graph.Nodes[2].Op, m.Graph.Nodes[2].Domain = "Relu", ""
	if got := untrainable(m); len(got) != 0 {
		t.Errorf("untrainable with token ids hashed: %q", got)
	}
}

package distill

import (
	"strings"
	"testing"

	"galley"
	"galley/onnx"
	"galley/trainer/architecture"
)

func TestHiddenValue(t *testing.T) {
	sizes := architecture.TextEncoder{Layers: 1, Hidden: 16, Heads: 2, FeedForward: 32, MaxLength: 12, Vocabulary: 100, Dropout: 0.1}
	var w *architecture.Weighing
	for _, name := range []string{"an encoder", "an encoder beside n-grams"} {
		m, err := sizes.Classifier(3, w, 1)
		if err != nil {
			t.Fatal(err)
		}
		// Mean and maximum of the tokens.
		v, err := HiddenValue("student", m, architecture.Logits)
		if err != nil || v.Shape[1].Size != 32 {
			t.Errorf("%s: %+v %v", name, v, err)
		}
		if p := m.Graph.Producers()[v.Name]; p == nil || p.Op != "Concat" {
			t.Errorf("%s: the state comes from %v", name, p)
		}
		sizes.NGrams = architecture.NGrams{Orders: 2, Buckets: 32, Width: 4}
		w = architecture.NewWeighing(sizes.NGrams, 100, nil)
		w.Add([]int32{7, 8, 9})
	}
	sizes.Layers = 0
	m, err := sizes.Classifier(3, w, 1)
	if err != nil {
		t.Fatal(err)
	}
	v, err := HiddenValue("small@1", m, architecture.Logits)
	if err == nil && v.Shape[1].Size != 4 {
		t.Errorf("n-grams alone: %+v", v)
	}
	b := onnx.NewBuilder(&onnx.Graph{Name: "sum"})
	shape := onnx.Shape{onnx.Symbol("batch"), {Size: 3}}
	x, y := b.Input("x", onnx.Float, shape), b.Input("y", onnx.Float, shape)
	sum := b.Op("Add", x, y)
	b.Output(sum, onnx.Float, shape)
	_, err = HiddenValue("old@1", &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": architecture.Opset}, Graph: b.Graph}, sum)
	if galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), "hidden_loss: old@1 has no hidden state to match: its logits are made of several values") {
		t.Error(err)
	}
}

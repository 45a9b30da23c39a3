package objective_test

import (
	"slices"
	"strings"
	"testing"

	"galley"
	"galley/onnx"
	"galley/trainer/architecture"
	"galley/trainer/objective"
)

// smallEncoder builds a classifier, with n-grams or without.
func smallEncoder(t *testing.T, orders int) *onnx.Model {
	t.Helper()
	a := architecture.TextEncoder{Layers: 1, Hidden: 8, Heads: 2, FeedForward: 16, MaxLength: 8, Vocabulary: 30, Dropout: 0.1}
	var w *architecture.Weighing
	if orders > 0 {
		a.NGrams = architecture.NGrams{Orders: orders, Buckets: 16, Width: 4}
		w = architecture.NewWeighing(a.NGrams, a.Vocabulary, []int32{0})
		for range 3 {
			w.Add([]int32{1, 2, 3, 4, 5})
		}
	}
	m, err := a.Classifier(3, w, 1)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func federated(t *testing.T, m *onnx.Model) (names []string) {
	t.Helper()
	weights, err := objective.Federated(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range weights {
		if m.Graph.Initializer(w.Name) != w || w.Type != onnx.Float {
			t.Errorf("%s is not the graph's own", w.Name)
		}
		names = append(names, w.Name)
	}
	return names
}

func TestFederated(t *testing.T) {
	plain, ngrams := federated(t, smallEncoder(t, 0)), federated(t, smallEncoder(t, 2))
	for _, name := range plain {
		if !slices.Contains(ngrams, name) {
			t.Errorf("%s is not exchanged where there are n-grams", name)
		}
	}
	var more []string
	for _, name := range ngrams {
		if !slices.Contains(plain, name) {
			more = append(more, name)
		}
	}
	slices.Sort(more)
	if !slices.Equal(more, []string{"head.ngrams", architecture.NGramTable}) || !slices.Contains(plain, "embeddings.tokens") || !slices.Contains(plain, "head.bias") {
		t.Errorf("%v and %v", plain, more)
	}
	m := smallEncoder(t, 2)
	for _, kept := range []string{"ngrams.weights", "ngrams.words", "blend.encoder", "blend.ngrams"} {
		if m.Graph.Initializer(kept) == nil || slices.Contains(ngrams, kept) {
			t.Errorf("%s is exchanged, or is not there", kept)
		}
	}
	// A blend that was fitted, and a graph that was written, change nothing.
	architecture.SetBlend(m, 0, 3.5)
	data, err := onnx.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	again, err := onnx.Unmarshal(data, onnx.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := federated(t, again); !slices.Equal(got, ngrams) {
		t.Errorf("%v, want %v", got, ngrams)
	}
}

func TestFederatedAdopted(t *testing.T) {
	b := onnx.NewBuilder(&onnx.Graph{Name: "outside"})
	shape := onnx.Shape{onnx.Symbol("batch"), onnx.Symbol("length")}
	ids := b.Input("input_ids", onnx.Int64, shape)
	b.Input("attention_mask", onnx.Int64, shape)
	states := b.Op("Gather", b.Weight(onnx.NewFloat("table", normal(1, 120), 30, 4)), ids)
	unread := b.Op("Greater", states, b.Weight(onnx.NewFloat("threshold", normal(2, 4), 4))) // no gradient passes it
	states = b.Op("Where", unread, states, b.Op("Neg", states))
	b.Output(states, onnx.Float, onnx.Shape{shape[0], shape[1], {Size: 4}})
	outside := &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": architecture.Opset}, Graph: b.Graph}
	if _, err := objective.Federated(outside); galley.CodeOf(err) != galley.InvalidArgument ||
		err.Error() != `from: is no classifier of galley's: the graph has no output "logits" — train a classifier from it first, with kind: Train, and federate that` {
		t.Errorf("%v", err)
	}
	adopted, err := architecture.Adopt(outside, architecture.AdoptOptions{Classes: 3, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got := federated(t, adopted); !slices.Equal(got, []string{"table", "head.weight", "head.bias"}) {
		t.Errorf("%v", got)
	}
}

func TestFederatedRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(m *onnx.Model)
		want   string
	}{
		{"fewer bits", func(m *onnx.Model) {
			w := m.Graph.Initializer("embeddings.tokens")
			w.Type, w.Data = onnx.Int8, make([]byte, w.Size())
		}, `from: has the weight "embeddings.tokens" of type int8 — name the version that it was made of: weights that are federated are float`},
		{"half precision", func(m *onnx.Model) {
			w := m.Graph.Initializer("embeddings.tokens")
			w.Type, w.Data = onnx.Float16, make([]byte, 2*w.Size())
		}, "of type float16"},
		{"no logits", func(m *onnx.Model) { m.Graph.Outputs[0].Name = "hidden" }, "is no classifier of galley's"},
		{"no gradient", func(m *onnx.Model) {
			for _, n := range m.Graph.Nodes {
				if n.Op == "LayerNormalization" {
					n.Op = "Unknown"
				}
			}
		}, "cannot be trained"},
	} {
		m := smallEncoder(t, 0)
		c.change(m)
		if _, err := objective.Federated(m); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	constant := logitsModel("logits", onnx.Shape{onnx.Symbol("batch"), {Size: 3}})
	if _, err := objective.Federated(constant); err == nil || !strings.Contains(err.Error(), "has no weights to train") {
		t.Error(err)
	}
}

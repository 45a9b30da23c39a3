package onnx

import (
	"slices"
	"testing"

	graph "galley/onnx"
	"galley/trainer/architecture"
)

// smallClassifier is a classifier whose n-grams are counted on the texts.
func smallClassifier(t *testing.T, n architecture.NGrams, classes int, seed uint64, texts ...[]int32) *graph.Model {
	t.Helper()
	a := architecture.TextEncoder{
		Layers: 1, Hidden: 8, Heads: 2, FeedForward: 16, MaxLength: 8, Vocabulary: 20, NGrams: n,
	}
	w := architecture.NewWeighing(n, a.Vocabulary, []int32{0})
	for _, ids := range texts {
		w.Add(ids)
	}
	m, err := a.Classifier(classes, w, seed)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func weightOf(t *testing.T, m *graph.Model, name string) []float32 {
	t.Helper()
	values, ok := m.Graph.Initializer(name).Floats()
	if !ok {
		t.Fatalf("%s is no float", name)
	}
	return values
}

const ngramWeights = "ngrams.weights"

// TestInherit holds what a classifier takes over from its parent: all but the
// head if the labels are others, and then its n-grams are weighed anew.
func TestInherit(t *testing.T) {
	n := architecture.NGrams{Orders: 1, Buckets: 1 << 16, Width: 4}
	before, after := []int32{1, 2}, []int32{2, 3}
	parent := smallClassifier(t, n, 3, 1, before, before, before, []int32{4})
	counted := smallClassifier(t, n, 3, 2, after, after)
	fresh := weightOf(t, counted, ngramWeights)
	kept := slices.Clone(fresh)
	for i, w := range weightOf(t, parent, ngramWeights) {
		if w > 0 {
			kept[i] = w
		}
	}
	if slices.Equal(kept, fresh) || slices.Equal(kept, weightOf(t, parent, ngramWeights)) {
		t.Fatal("the test's texts do not tell")
	}

	same := smallClassifier(t, n, 3, 2, after, after)
	inherit(same, parent, true)
	for _, name := range []string{"head.weight", "head.ngrams", architecture.NGramTable, architecture.TokenTable} {
		if !slices.Equal(weightOf(t, same, name), weightOf(t, parent, name)) {
			t.Errorf("with the same labels, %s is not the parent's", name)
		}
	}
	if !slices.Equal(weightOf(t, same, ngramWeights), kept) {
		t.Error("with the same labels, n-grams do not keep the parent's weights")
	}

	others := smallClassifier(t, n, 3, 2, after, after)
	inherit(others, parent, false)
	if !slices.Equal(weightOf(t, others, architecture.NGramTable), weightOf(t, parent, architecture.NGramTable)) {
		t.Error("with other labels, the table is not the parent's")
	}
	if !slices.Equal(weightOf(t, others, ngramWeights), fresh) || !slices.Equal(weightOf(t, others, "head.weight"), weightOf(t, counted, "head.weight")) {
		t.Error("with other labels, the head or the n-grams' weights are the parent's")
	}

	// A table of another width is a table of its own, weighed on its own.
	n.Width = 8
	wide := smallClassifier(t, n, 3, 2, after, after)
	inherit(wide, parent, true)
	if !slices.Equal(weightOf(t, wide, ngramWeights), fresh) {
		t.Error("a table of its own has the parent's weights")
	}
	if !slices.Equal(weightOf(t, parent, ngramWeights), weightOf(t, smallClassifier(t, architecture.NGrams{Orders: 1, Buckets: 1 << 16, Width: 4}, 3, 1, before, before, before, []int32{4}), ngramWeights)) {
		t.Error("the parent was changed")
	}
}

// TestInheritLeavesConstants holds that constants, which have their names by
// number, stay what the new graph needs.
func TestInheritLeavesConstants(t *testing.T) {
	build := func(orders int) *graph.Model {
		return smallClassifier(t, architecture.NGrams{Orders: orders, Buckets: 64, Width: 4}, 2, 1, []int32{1, 2, 3})
	}
	m, untouched := build(3), build(3)
	parent := build(2)
	for _, c := range parent.Graph.Initializers {
		if c.Type == graph.Int64 {
			clear(c.Data)
		}
	}
	inherit(m, parent, true)
	for i, c := range m.Graph.Initializers {
		if c.Type == graph.Int64 && !slices.Equal(c.Data, untouched.Graph.Initializers[i].Data) {
			t.Errorf("%s is the parent's", c.Name)
		}
	}
}

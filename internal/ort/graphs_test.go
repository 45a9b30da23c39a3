package ort_test

import (
	"context"
	"testing"

	"galley/internal/ort/orttest"
	"galley/onnx"
	"galley/onnx/session"
)

// graph is the bytes of a model that build writes.
func graph(t testing.TB, build func(b *onnx.Builder)) []byte {
	t.Helper()
	g := &onnx.Graph{Name: "test"}
	build(onnx.NewBuilder(g))
	data, err := onnx.Marshal(&onnx.Model{IRVersion: 8, Opsets: map[string]int64{"": 17}, Graph: g})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var rows = onnx.Symbol("n")

// identity gives y = x.
func identity(t testing.TB, dtype onnx.DataType, shape onnx.Shape) []byte {
	return graph(t, func(b *onnx.Builder) {
		b.Input("x", dtype, shape)
		named(b, "Identity", "y", "x")
		b.Output("y", dtype, shape)
	})
}

// sum gives z = x + y over float [n,3].
func sum(t testing.TB) []byte {
	return graph(t, func(b *onnx.Builder) {
		shape := onnx.Shape{rows, {Size: 3}}
		b.Input("x", onnx.Float, shape)
		b.Input("y", onnx.Float, shape)
		named(b, "Add", "z", "x", "y")
		b.Output("z", onnx.Float, shape)
	})
}

// nonZero gives the indices i of x's elements that are not zero, and x twice.
func nonZero(t testing.TB) []byte {
	return graph(t, func(b *onnx.Builder) {
		b.Input("x", onnx.Float, onnx.Shape{rows})
		named(b, "NonZero", "i", "x")
		named(b, "Add", "d", "x", "x")
		b.Output("i", onnx.Int64, onnx.Shape{{Size: 1}, onnx.Symbol("k")})
		b.Output("d", onnx.Float, onnx.Shape{rows})
	})
}

// long multiplies a matrix with itself as often as times says.
func long(t testing.TB) []byte {
	return graph(t, func(b *onnx.Builder) {
		square := onnx.Shape{rows, rows}
		b.Input("times", onnx.Int64, onnx.Shape{})
		b.Input("go", onnx.Bool, onnx.Shape{})
		b.Input("a", onnx.Float, square)
		body := &onnx.Graph{Name: "body",
			Inputs:  []onnx.Value{{Name: "step", Type: onnx.Int64, Shape: onnx.Shape{}}, {Name: "more", Type: onnx.Bool, Shape: onnx.Shape{}}, {Name: "m", Type: onnx.Float, Shape: square}},
			Outputs: []onnx.Value{{Name: "more2", Type: onnx.Bool, Shape: onnx.Shape{}}, {Name: "m2", Type: onnx.Float, Shape: square}},
			Nodes: []*onnx.Node{
				{Name: "again", Op: "Identity", Inputs: []string{"more"}, Outputs: []string{"more2"}},
				{Name: "times", Op: "MatMul", Inputs: []string{"m", "m"}, Outputs: []string{"m2"}},
			}}
		b.Graph.Nodes = append(b.Graph.Nodes, &onnx.Node{Name: "loop", Op: "Loop", Inputs: []string{"times", "go", "a"},
			Outputs: []string{"r"}, Attrs: map[string]onnx.Attr{"body": body}})
		b.Output("r", onnx.Float, square)
	})
}

// named appends a node whose one output has the given name.
func named(b *onnx.Builder, op, output string, inputs ...string) {
	b.Graph.Nodes = append(b.Graph.Nodes, &onnx.Node{Name: b.Name(op), Op: op, Inputs: inputs, Outputs: []string{output}})
}

func open(t testing.TB, model []byte) session.Session {
	t.Helper()
	s, err := orttest.Opener(t).Open(context.Background(), model, session.Options{Threads: 1, Label: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func tensor[T session.Number](t testing.TB, data []T, shape ...int64) *session.Tensor {
	t.Helper()
	out, err := session.New(data, shape...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

type feeds = map[string]*session.Tensor

package onnx

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"galley"
)

// branching is y = If(c, Relu(h), h), h = x + w, with a dead node and weight.
func branching() *Model {
	relu := &Graph{
		Name:    "then",
		Nodes:   []*Node{{Name: "relu", Op: "Relu", Inputs: []string{"h"}, Outputs: []string{"t"}}},
		Outputs: []Value{{Name: "t", Type: Float}},
	}
	same := &Graph{
		Name: "else",
		Nodes: []*Node{
			{Name: "same", Op: "Identity", Inputs: []string{"h"}, Outputs: []string{"e"}},
			{Name: "dead inside", Op: "Neg", Inputs: []string{"h"}, Outputs: []string{"unused inside"}},
		},
		Outputs: []Value{{Name: "e", Type: Float}},
	}
	g := &Graph{
		Name:         "g",
		Inputs:       []Value{{Name: "x", Type: Float, Shape: Fixed(3)}, {Name: "c", Type: Bool, Shape: Shape{}}},
		Outputs:      []Value{{Name: "y", Type: Float, Shape: Fixed(3)}},
		Values:       []Value{{Name: "h", Type: Float, Shape: Fixed(3)}, {Name: "unused", Type: Float}},
		Initializers: []*Tensor{NewFloat("w", []float32{1, 2, 3}, 3), NewFloat("v", []float32{1, 2, 3}, 3)},
		Nodes: []*Node{
			{Name: "add", Op: "Add", Inputs: []string{"x", "w"}, Outputs: []string{"h"}},
			{Name: "dead", Op: "Mul", Inputs: []string{"h", "v"}, Outputs: []string{"unused"}},
			{Name: "if", Op: "If", Inputs: []string{"c"}, Outputs: []string{"y"}, Attrs: attrs{"then_branch": relu, "else_branch": same}},
		},
	}
	return &Model{IRVersion: 8, Opsets: map[string]int64{"": 17}, Graph: g}
}

func labels(nodes []*Node) string {
	var out []string
	for _, n := range nodes {
		out = append(out, n.Name)
	}
	return strings.Join(out, " ")
}

func mustCheck(t testing.TB, m *Model) {
	t.Helper()
	if err := Check(m); err != nil {
		t.Fatal(err)
	}
	if _, err := InferShapes(m); err != nil {
		t.Fatal(err)
	}
}

func TestUses(t *testing.T) {
	m := branching()
	mustCheck(t, m)
	g := m.Graph
	if got := labels(g.Consumers()["h"]); got != "dead if" {
		t.Errorf("h is read by %q", got)
	}
	if n := g.Producers()["y"]; n == nil || n.Name != "if" {
		t.Errorf("y is written by %v", n)
	}
	if n := ReplaceUses(g, "h", "x"); n != 4 {
		t.Errorf("%d uses replaced, want 4", n)
	}
	if got := labels(g.Consumers()["x"]); got != "add dead if" {
		t.Errorf("x is read by %q", got)
	}
	mustCheck(t, m)
}

func TestRename(t *testing.T) {
	m := branching()
	before := m.Clone()
	for from, to := range map[string]string{"h": "hidden", "w": "weight", "x": "input", "y": "output"} {
		if err := Rename(m.Graph, from, to); err != nil {
			t.Fatal(err)
		}
	}
	mustCheck(t, m)
	if got := labels(m.Graph.Consumers()["hidden"]); got != "dead if" {
		t.Errorf("hidden is read by %q", got)
	}
	if before.Graph.Initializers[0].Name != "w" {
		t.Error("the clone was renamed as well")
	}
	for _, to := range []string{"output", "t", ""} {
		checkError(t, Rename(m.Graph, "hidden", to), galley.InvalidArgument, `value "hidden" cannot be renamed`)
	}
	checkError(t, Rename(m.Graph, "ghost", "z"), galley.InvalidArgument, `has no value "ghost"`)
}

func TestRemoveUnused(t *testing.T) {
	m := branching()
	nodes, initializers := RemoveUnused(m.Graph)
	if nodes != 2 || initializers != 1 {
		t.Errorf("removed %d nodes and %d initializers, want 2 and 1", nodes, initializers)
	}
	if got := labels(m.Graph.Nodes); got != "add if" || len(m.Graph.Values) != 1 {
		t.Errorf("kept %q, values %v", got, m.Graph.Values)
	}
	mustCheck(t, m)
}

func TestClone(t *testing.T) {
	m := branching()
	c := m.Clone()
	if !reflect.DeepEqual(m, c) {
		t.Fatal("a clone is another model")
	}
	ReplaceUses(c.Graph, "h", "x")
	c.Graph.Nodes[0].Outputs[0] = "k"
	c.Graph.Inputs[0].Shape[0] = Symbol("n")
	c.Opsets[""] = 18
	if !reflect.DeepEqual(m, branching()) {
		t.Error("changing the clone changed the model")
	}
	if &c.Graph.Initializers[0].Data[0] != &m.Graph.Initializers[0].Data[0] {
		t.Error("the clone does not share tensor bytes")
	}
}

func TestTopologicalSort(t *testing.T) {
	m := branching()
	want := labels(m.Graph.Nodes)
	if err := TopologicalSort(m.Graph); err != nil || labels(m.Graph.Nodes) != want {
		t.Errorf("sorted nodes were reordered to %q: %v", labels(m.Graph.Nodes), err)
	}
	slices.Reverse(m.Graph.Nodes)
	if err := TopologicalSort(m.Graph); err != nil {
		t.Fatal(err)
	}
	mustCheck(t, m)
	then := m.Graph.Producers()["y"].Attrs["then_branch"].(*Graph)
	then.Nodes[0].Inputs[0] = "t"
	checkError(t, TopologicalSort(m.Graph), galley.InvalidArgument, `node "relu" (Relu): is part of a cycle`)
}

func TestInitializersToInputs(t *testing.T) {
	m := branching()
	tensors, err := InitializersToInputs(m.Graph, "v", "w")
	if err != nil {
		t.Fatal(err)
	}
	if len(tensors) != 2 || tensors[0].Name != "v" || len(m.Graph.Initializers) != 0 || len(m.Graph.Inputs) != 4 {
		t.Errorf("moved %v, inputs %v", tensors, m.Graph.Inputs)
	}
	mustCheck(t, m)
	_, err = InitializersToInputs(m.Graph, "ghost")
	checkError(t, err, galley.InvalidArgument, `has no initializer "ghost"`)
}

// randomModel draws a small valid model that uses every kind of attribute.
func randomModel(r *rapid.T) *Model {
	g := &Graph{Name: rapid.StringMatching("[a-z]{1,4}").Draw(r, "name")}
	b := NewBuilder(g)
	have := []string{b.Input("x", Float, Shape{Symbol("n"), {Size: 3}, unknownDim})}
	kinds := []Attr{
		int64(-3), float32(1.5), "text", []int64{}, []int64{1, -1}, []float32{0.5}, []string{"a", ""},
		NewFloat("", []float32{1, 2}, 2), []*Tensor{NewInt64("t", []int64{5})}, []float32{}, []string{},
		&Tensor{Name: "s", Type: String, Dims: []int64{1}, Strings: [][]byte{[]byte("text")}},
		&Graph{Name: "sub", Outputs: []Value{{Name: "x", Type: Float}}}, []*Graph{},
	}
	for i := range rapid.IntRange(1, 8).Draw(r, "nodes") {
		if rapid.Bool().Draw(r, "weight") {
			have = append(have, b.Weight(NewFloat(b.Name("w"), []float32{float32(i)}, 1)))
		}
		inputs := rapid.SliceOfN(rapid.SampledFrom(append(have, "")), 1, 3).Draw(r, "inputs")
		a := attrs{}
		for j := range rapid.IntRange(0, 3).Draw(r, "attributes") {
			a[string(rune('z'-j))] = rapid.SampledFrom(kinds).Draw(r, "attribute")
		}
		if len(a) == 0 {
			a = nil
		}
		have = append(have, b.Node("test", "Custom", a, rapid.IntRange(1, 2).Draw(r, "outputs"), inputs...)...)
	}
	b.Output(have[len(have)-1], Undefined, nil)
	m := &Model{IRVersion: 8, Opsets: map[string]int64{"": 17, "test": 1}, Graph: g}
	if rapid.Bool().Draw(r, "metadata") {
		m.Metadata = map[string]string{"b": "1", "a": "2"}
	}
	return m
}

// TestRoundTrip holds that reading what was written gives the same model, and
// that bytes and digests are functions of the model.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		m := randomModel(r)
		data, err := Marshal(m)
		if err != nil {
			r.Fatal(err)
		}
		got, err := Unmarshal(data, ReadOptions{})
		if err != nil {
			r.Fatal(err)
		}
		if !reflect.DeepEqual(got, m) {
			r.Fatalf("got %+v, want %+v", got.Graph, m.Graph)
		}
		again, err := Marshal(m.Clone())
		if err != nil || !slices.Equal(data, again) || Digest(got) != Digest(m) {
			r.Fatal("the same model gives other bytes", err)
		}
	})
}

// TestDigestTellsModelsApart changes one thing at a time.
func TestDigestTellsModelsApart(t *testing.T) {
	changes := map[string]func(m *Model){
		"nothing":    func(*Model) {},
		"opset":      func(m *Model) { m.Opsets[""] = 18 },
		"metadata":   func(m *Model) { m.Metadata = map[string]string{"a": "b"} },
		"weight":     func(m *Model) { m.Graph.Initializers[0] = NewFloat("w", []float32{1, 2, 4}, 3) },
		"dims":       func(m *Model) { m.Graph.Initializers[0] = NewFloat("w", []float32{1, 2, 3}, 1, 3) },
		"attribute":  func(m *Model) { m.Graph.Nodes[0].Attrs = attrs{"a": int64(1)} },
		"kind":       func(m *Model) { m.Graph.Nodes[0].Attrs = attrs{"a": []int64{1}} },
		"unknown":    func(m *Model) { m.Graph.Outputs[0].Shape = nil },
		"scalar":     func(m *Model) { m.Graph.Outputs[0].Shape = Shape{} },
		"symbol":     func(m *Model) { m.Graph.Outputs[0].Shape = Shape{Symbol("n")} },
		"open":       func(m *Model) { m.Graph.Outputs[0].Shape = Shape{unknownDim} },
		"branch":     func(m *Model) { m.Graph.Nodes[2].Attrs["then_branch"].(*Graph).Nodes[0].Op = "Abs" },
		"name":       func(m *Model) { m.Graph.Nodes[0].Name = "sum" },
		"no node":    func(m *Model) { m.Graph.Nodes = m.Graph.Nodes[1:] },
		"functions":  func(m *Model) { m.Functions = []*Function{{Name: "f"}} },
		"input kind": func(m *Model) { m.Graph.Inputs[0].Other = []byte{34, 0} },
	}
	seen := map[galley.Digest]string{}
	for _, name := range sortedKeys(changes) {
		m := branching()
		changes[name](m)
		d := Digest(m)
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s have the same digest", name, other)
		}
		seen[d] = name
	}
}

package diff

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"galley/onnx"
)

// maxTensors is the most tensors that are listed one by one.
const maxTensors = 500

// A Graph is what differs between two graphs.
type Graph struct {
	Nodes      Pair[int]   `json:"nodes"`
	Parameters Pair[int64] `json:"parameters"` // elements of all initializers
	// Operators lists those that one graph has more often.
	Operators []Count `json:"operators,omitempty"`
	// Signature lists inputs and outputs that differ, by their names.
	Signature []Field `json:"signature,omitempty"`
	Weights   Weights `json:"weights"`
}

// A Pair is a figure of the one and of the other version.
type Pair[T any] struct {
	A T `json:"a"`
	B T `json:"b"`
}

// A Count is how often an operator occurs.
type Count struct {
	Operator string `json:"operator"`
	Pair[int]
}

// Weights is what differs between the initializers of two graphs.
type Weights struct {
	Same      int      `json:"same"`               // tensors, to the bit
	Changed   []Tensor `json:"changed,omitempty"`  // the most changed first
	Unlisted  int      `json:"unlisted,omitempty"` // changed tensors beyond those
	OnlyA     []Tensor `json:"only_a,omitempty"`
	OnlyB     []Tensor `json:"only_b,omitempty"`
	Reshaped  []Field  `json:"reshaped,omitempty"` // of another shape or type
	Elements  int64    `json:"elements"`           // that differ, in tensors of one shape
	Norm      float64  `json:"norm"`               // of all differences
	Reference float64  `json:"reference"`          // norm of the same weights of a
}

// A Tensor is an initializer, and how far it is from the one of the same name.
type Tensor struct {
	Name     string  `json:"name"`
	Shape    string  `json:"shape"`
	Changed  int64   `json:"changed"`  // elements
	Elements int64   `json:"elements"` // in all
	Norm     float64 `json:"norm"`     // of the difference; 0 for what is not float32
	Relative float64 `json:"relative"` // to the norm of a's
	Largest  float64 `json:"largest"`  // difference of one element
}

// Graphs compares two graphs.
func Graphs(a, b *onnx.Model) Graph {
	out := Graph{
		Nodes:      Pair[int]{len(a.Graph.Nodes), len(b.Graph.Nodes)},
		Parameters: Pair[int64]{parameters(a), parameters(b)},
		Weights:    weights(a, b),
	}
	ops := map[string]*Count{}
	count := func(m *onnx.Model, add func(*Count)) {
		for _, n := range m.Graph.Nodes {
			name := n.Op
			if n.Domain != "" {
				name = n.Domain + "." + n.Op
			}
			if ops[name] == nil {
				ops[name] = &Count{Operator: name}
			}
			add(ops[name])
		}
	}
	count(a, func(c *Count) { c.A++ })
	count(b, func(c *Count) { c.B++ })
	for _, name := range slices.Sorted(maps.Keys(ops)) {
		if c := ops[name]; c.A != c.B {
			out.Operators = append(out.Operators, *c)
		}
	}
	for version := range a.Opsets {
		if a.Opsets[version] != b.Opsets[version] {
			out.Signature = append(out.Signature, Field{"opset " + version, fmt.Sprint(a.Opsets[version]), fmt.Sprint(b.Opsets[version])})
		}
	}
	out.Signature = append(out.Signature, values("input", a.Graph.Inputs, b.Graph.Inputs)...)
	out.Signature = append(out.Signature, values("output", a.Graph.Outputs, b.Graph.Outputs)...)
	return out
}

func parameters(m *onnx.Model) (n int64) {
	for _, t := range m.Graph.Initializers {
		n += t.Size()
	}
	return n
}

// values compares inputs or outputs.
func values(kind string, a, b []onnx.Value) []Field {
	describe := func(all []onnx.Value) map[string]any {
		out := map[string]any{}
		for _, v := range all {
			out[kind+" "+v.Name] = fmt.Sprintf("%v %v", v.Type, v.Shape)
		}
		return out
	}
	return fields(describe(a), describe(b))
}

func weights(a, b *onnx.Model) Weights {
	var w Weights
	others := make(map[string]*onnx.Tensor, len(b.Graph.Initializers))
	for _, t := range b.Graph.Initializers {
		others[t.Name] = t
	}
	sum, reference := 0.0, 0.0
	for _, t := range a.Graph.Initializers {
		other := others[t.Name]
		delete(others, t.Name)
		switch {
		case other == nil:
			w.OnlyA = append(w.OnlyA, described(t))
		case t.Type != other.Type || !slices.Equal(t.Dims, other.Dims):
			w.Reshaped = append(w.Reshaped, Field{t.Name, shape(t), shape(other)})
		default:
			d, own := compare(t, other)
			reference += own * own
			if d.Changed == 0 {
				w.Same++
				continue
			}
			sum += d.Norm * d.Norm
			w.Elements += d.Changed
			w.Changed = append(w.Changed, d)
		}
	}
	for _, t := range b.Graph.Initializers {
		if others[t.Name] != nil {
			w.OnlyB = append(w.OnlyB, described(t))
		}
	}
	w.Norm, w.Reference = math.Sqrt(sum), math.Sqrt(reference)
	slices.SortStableFunc(w.Changed, func(x, y Tensor) int {
		return cmp.Or(cmp.Compare(y.Relative, x.Relative), cmp.Compare(x.Name, y.Name))
	})
	w.Unlisted = max(0, len(w.Changed)-maxTensors)
	w.Changed = w.Changed[:len(w.Changed)-w.Unlisted]
	for _, list := range []*[]Tensor{&w.OnlyA, &w.OnlyB} {
		*list = (*list)[:min(len(*list), maxTensors)]
	}
	w.Reshaped = w.Reshaped[:min(len(w.Reshaped), maxTensors)]
	return w
}

func shape(t *onnx.Tensor) string { return fmt.Sprintf("%v %v", t.Type, t.Dims) }

func described(t *onnx.Tensor) Tensor {
	return Tensor{Name: t.Name, Shape: shape(t), Elements: t.Size()}
}

// compare returns how far b is from a, of the same type and shape, and the
// norm of a.
func compare(a, b *onnx.Tensor) (Tensor, float64) {
	out := described(a)
	x, ok := a.Floats()
	y, also := b.Floats()
	if a.Type != onnx.Float || !ok || !also || len(x) != len(y) {
		out.Changed = bytesChanged(a, b)
		return out, 0
	}
	sum, own := 0.0, 0.0
	for i := range x {
		own += float64(x[i]) * float64(x[i])
		// By bits: NaN is what it was, and zero may have changed its sign.
		if math.Float32bits(x[i]) == math.Float32bits(y[i]) {
			continue
		}
		out.Changed++
		if d := math.Abs(float64(x[i]) - float64(y[i])); !math.IsNaN(d) && !math.IsInf(d, 0) {
			sum += d * d
			out.Largest = max(out.Largest, d)
		}
	}
	out.Norm = finite(math.Sqrt(sum))
	own = finite(math.Sqrt(own))
	if own > 0 {
		out.Relative = out.Norm / own
	}
	return out, own
}

// finite keeps figures that JSON can say.
func finite(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	return x
}

// bytesChanged counts the elements of two tensors that differ.
func bytesChanged(a, b *onnx.Tensor) (n int64) {
	if len(a.Strings) > 0 || len(b.Strings) > 0 {
		for i := range min(len(a.Strings), len(b.Strings)) {
			if !bytes.Equal(a.Strings[i], b.Strings[i]) {
				n++
			}
		}
		return n
	}
	if len(a.Data) != len(b.Data) || a.Size() == 0 {
		return a.Size()
	}
	width := max(1, len(a.Data)/int(a.Size()))
	for i := 0; i+width <= len(a.Data); i += width {
		if !bytes.Equal(a.Data[i:i+width], b.Data[i:i+width]) {
			n++
		}
	}
	return n
}

package quantize

import (
	"fmt"

	"galley"
	"galley/onnx"
)

// A Site is a place of a graph that a method can quantise.
type Site struct {
	Name   string `json:"name"` // the first output of its node; of Float16, the weight
	Op     string `json:"op"`   // MatMul, Gemm, Conv, Gather or, of Float16, Weight
	Weight string `json:"weight"`

	// activation is the computed input of a product.
	activation string
}

// A Left is a node with weights that stays float, and why.
type Left struct {
	Name string  `json:"name"`
	Op   string  `json:"op"`
	Why  string  `json:"why"`
	Cost float64 `json:"cost,omitempty"` // relative error of the outputs, if it was left for that
}

func (l Left) String() string {
	return fmt.Sprintf("%s (%s): %s", galley.Clip(l.Name, 80), galley.Clip(l.Op, 40), l.Why)
}

// least is how many weights a tensor has at least to be worth it: below, the
// nodes around a product cost more than it saves.
const least = 2048

// leastRow is how long the rows of a table are at least: below, their scales
// take too much of what is saved.
const leastRow = 8

// Find lists what a method would quantise, in the order of the nodes, and
// what it would leave.
func Find(m *onnx.Model, o Options) ([]Site, []Left, error) {
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	if o.Method == Float16 {
		sites, left := findWeights(m.Graph)
		return sites, left, nil
	}
	types, err := onnx.InferShapes(m)
	if err != nil {
		return nil, nil, err
	}
	f := &finder{o: o, types: types, constants: newConstants(m.Graph)}
	for _, n := range m.Graph.Nodes {
		f.node(n)
	}
	return f.sites, f.left, nil
}

type finder struct {
	o         Options
	types     *onnx.Types
	constants *constants
	sites     []Site
	left      []Left
}

func (f *finder) node(n *onnx.Node) {
	for _, graphs := range n.Graphs() {
		for _, g := range graphs {
			if hasWeights(g) {
				f.leave(n, "its weights lie in a subgraph")
			}
		}
	}
	weight, large := -1, false // the last large constant that it reads
	for i, in := range n.Inputs {
		if size(f.constants.dims(in)) >= least {
			weight, large = i, true
		}
	}
	if !large || passes(n) {
		return
	}
	if n.Domain != "" {
		f.leave(n, "the operator is not one of the standard")
		return
	}
	why := ""
	site := Site{Name: n.Output(0), Op: n.Op, Weight: n.Input(weight)}
	switch n.Op {
	case "MatMul", "Gemm":
		site.activation = n.Input(0)
		why = f.product(n, weight)
	case "Conv":
		site.activation = n.Input(0)
		why = f.convolution(n, weight)
	case "Gather":
		why = f.table(n, weight)
	default:
		why = "the operator cannot be quantised"
	}
	if why != "" {
		f.leave(n, why)
		return
	}
	f.sites = append(f.sites, site)
}

// passes tells nodes that hand a constant on: those behind them count.
func passes(n *onnx.Node) bool {
	return n.Domain == "" && (n.Op == "Identity" || n.Op == "Cast" || n.Op == "Transpose" || n.Op == "Constant")
}

// product says why a MatMul or Gemm cannot be quantised, or "".
func (f *finder) product(n *onnx.Node, weight int) string {
	switch {
	case weight != 1:
		return "its weights stand on the left"
	case len(f.constants.dims(n.Input(1))) != 2:
		return "its weights are no matrix"
	}
	if t := f.types.Type(n.Input(0)); t != onnx.Float && t != onnx.Undefined {
		return "it computes in " + t.String()
	}
	if n.Op != "Gemm" {
		return ""
	}
	switch {
	case n.AttrInt("transA", 0) != 0:
		return "it transposes its input"
	case n.Input(2) != "" && n.AttrFloat("beta", 1) != 1:
		return "it scales its bias"
	}
	return ""
}

func (f *finder) convolution(n *onnx.Node, weight int) string {
	switch {
	case f.o.Method == Dynamic:
		return "a convolution is slower with ranges found at each run; method: static quantises it"
	case f.o.Method == WeightOnly:
		return "there is no convolution over 4-bit weights"
	case weight != 1:
		return "its weights are computed"
	}
	if n.Input(2) != "" && f.constants.dims(n.Input(2)) == nil {
		return "its bias is computed"
	}
	if t := f.types.Type(n.Input(0)); t != onnx.Float && t != onnx.Undefined {
		return "it computes in " + t.String()
	}
	return ""
}

func (f *finder) table(n *onnx.Node, weight int) string {
	dims := f.constants.dims(n.Input(0))
	switch {
	case f.o.FloatTables:
		return "tables were to stay float"
	case weight != 0 || len(dims) == 0:
		return "its indices are large"
	case len(dims) != 2:
		return "a table of single numbers gains little"
	case dims[1] < leastRow:
		return "its rows are too short"
	case n.AttrInt("axis", 0) != 0:
		return "it does not choose rows"
	}
	return ""
}

func (f *finder) leave(n *onnx.Node, why string) {
	op := n.Op
	if n.Domain != "" {
		op = n.Domain + "." + n.Op
	}
	f.left = append(f.left, Left{Name: n.Output(0), Op: op, Why: why})
}

// hasWeights reports whether a subgraph has large constants of its own.
func hasWeights(g *onnx.Graph) bool {
	for _, t := range g.Initializers {
		if t.Type.IsFloat() && t.Size() >= least {
			return true
		}
	}
	for _, n := range g.Nodes {
		for _, a := range n.Attrs {
			if t, ok := a.(*onnx.Tensor); ok && t != nil && t.Type.IsFloat() && t.Size() >= least {
				return true
			}
		}
		for _, graphs := range n.Graphs() {
			for _, sub := range graphs {
				if hasWeights(sub) {
					return true
				}
			}
		}
	}
	return false
}

// size is the number of elements; 0 for no dimensions, which is no constant
// of interest here.
func size(dims []int64) int64 {
	if len(dims) == 0 {
		return 0
	}
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	return n
}

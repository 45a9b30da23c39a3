package quantize

import (
	"fmt"
	"slices"

	"galley/onnx"
)

// A Result is what Apply did to a graph.
type Result struct {
	Sites []Site // that were quantised
	Left  []Left // that stay float, and why
	// Saturable is the share of pairs of weights whose products can leave 16
	// bits where the processor adds in 16; 0 if there are none.
	Saturable float64
}

// Activations lists the values whose ranges method Static needs, in the order
// of the graph.
func Activations(m *onnx.Model, sites []Site) []string {
	var out []string
	consumers := m.Graph.Consumers()
	for _, s := range sites {
		if s.activation != "" && !slices.Contains(out, s.activation) {
			out = append(out, s.activation)
		}
		if s.Op == "Conv" {
			if end := rectified(m.Graph, consumers, s.Name); !slices.Contains(out, end) {
				out = append(out, end)
			}
		}
	}
	return out
}

// Apply returns a quantised copy of a model. A site that the options leave,
// or that has no range where it needs one, stays float.
func Apply(m *onnx.Model, o Options) (*onnx.Model, *Result, error) {
	sites, left, err := Find(m, o)
	if err != nil {
		return nil, nil, err
	}
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	r := &rewriter{
		o: o, result: &Result{Left: left},
		constants: newConstants(m.Graph), consumers: m.Graph.Consumers(),
		sites:       make(map[string]Site, len(sites)),
		activations: map[string][]string{}, weights: map[string]*written{},
		replaced: map[string]bool{},
	}
	for _, s := range sites {
		if o.Leave[s.Name] {
			r.result.Left = append(r.result.Left, Left{Name: s.Name, Op: s.Op, Why: "it was to stay float"})
			continue
		}
		r.sites[s.Name] = s
	}
	if len(r.sites) == 0 {
		return nil, nil, unquantizable(m, o.Method, r.result.Left)
	}
	if r.types, err = onnx.InferShapes(m); err != nil {
		return nil, nil, err
	}
	out := m.Clone()
	r.m, r.b = out, onnx.NewBuilder(out.Graph)
	r.b.SetPrefix("quantized/")
	if err := r.rewrite(); err != nil {
		return nil, nil, err
	}
	if len(r.result.Sites) == 0 {
		return nil, nil, unquantizable(m, o.Method, r.result.Left)
	}
	if r.pairs > 0 {
		r.result.Saturable = float64(r.over) / float64(r.pairs)
	}
	onnx.RemoveUnused(out.Graph)
	return out, r.result, onnx.Check(out)
}

// A rewriter puts quantised nodes in the places of float ones.
type rewriter struct {
	m         *onnx.Model
	b         *onnx.Builder
	o         Options
	constants *constants
	types     *onnx.Types
	consumers map[string][]*onnx.Node
	sites     map[string]Site
	result    *Result

	activations map[string][]string // a float value -> its quantised one, scale, zero point
	weights     map[string]*written
	replaced    map[string]bool // nodes, by first output, that a site took over
	over, pairs int64
}

// A written weight is names of initializers.
type written struct{ data, scale, zero string }

func (r *rewriter) rewrite() error {
	g := r.m.Graph
	nodes := g.Nodes
	g.Nodes = make([]*onnx.Node, 0, 2*len(nodes))
	if r.o.Method == Float16 {
		return r.halve(nodes)
	}
	for _, n := range nodes {
		site, ok := r.sites[n.Output(0)]
		if !ok {
			if !r.replaced[n.Output(0)] {
				g.Nodes = append(g.Nodes, n)
			}
			continue
		}
		why, err := r.site(n, site)
		if err != nil {
			return err
		}
		if why != "" {
			r.result.Left = append(r.result.Left, Left{Name: site.Name, Op: site.Op, Why: why})
			g.Nodes = append(g.Nodes, n)
			continue
		}
		r.result.Sites = append(r.result.Sites, site)
	}
	return nil
}

// site writes what takes a node's place, or says why the node stays.
func (r *rewriter) site(n *onnx.Node, s Site) (why string, err error) {
	switch {
	case s.Op == "Gather":
		return "", r.table(n)
	case s.Op == "Conv":
		return r.convolution(n)
	case r.o.Method == Dynamic:
		return "", r.product(n, r.dynamicProduct)
	case r.o.Method == WeightOnly:
		return "", r.product(n, r.blockProduct)
	default:
		if _, ok := r.o.Ranges[s.activation]; !ok {
			return "no range of its input is known", nil
		}
		return "", r.static(n)
	}
}

// product writes x W, or of a Gemm alpha x W + C, whose product write makes
// under the name it is given.
func (r *rewriter) product(n *onnx.Node, write func(n *onnx.Node, w *matrix, out string) error) error {
	w, err := r.factor(n)
	if err != nil {
		return err
	}
	if n.Op == "MatMul" || n.Input(2) == "" {
		return write(n, w, n.Output(0))
	}
	y := r.b.Name("product")
	if err := write(n, w, y); err != nil {
		return err
	}
	r.emit(n.Output(0), "", "Add", nil, y, n.Input(2))
	return nil
}

// factor is the constant matrix of a product, of a Gemm as a MatMul has it.
func (r *rewriter) factor(n *onnx.Node) (*matrix, error) {
	w, ok := r.constants.matrix(n.Input(1))
	if !ok {
		return nil, unreadable(n.Input(1))
	}
	if n.Op == "MatMul" {
		return w, nil
	}
	if n.AttrInt("transB", 0) != 0 {
		w.values = transpose(w.all(), int(w.dims[0]), int(w.dims[1]))
		w.dims = []int64{w.dims[1], w.dims[0]}
		w.name += " transposed"
	}
	if alpha := n.AttrFloat("alpha", 1); alpha != 1 {
		w.values = slices.Clone(w.all())
		for i := range w.values {
			w.values[i] *= alpha
		}
		w.name += fmt.Sprintf(" times %g", alpha)
	}
	return w, nil
}

// emit appends a node whose output has a name of its own.
func (r *rewriter) emit(out, domain, op string, attrs map[string]onnx.Attr, inputs ...string) {
	r.b.Graph.Nodes = append(r.b.Graph.Nodes, &onnx.Node{
		Name: r.b.Name(op), Op: op, Domain: domain, Inputs: inputs, Outputs: []string{out}, Attrs: attrs,
	})
}

// columns is the axis that has a scale for each index, or -1.
func (r *rewriter) axis(of int) int {
	if r.o.PerTensor {
		return -1
	}
	return of
}

// weight writes an 8-bit weight once.
func (r *rewriter) weight(w *matrix, axis int, g Grid) (*written, error) {
	key := fmt.Sprintf("%s axis %d", w.name, axis) // a table may be a matrix as well
	if done := r.weights[key]; done != nil {
		return done, nil
	}
	p, err := pack(w, axis, g)
	if err != nil {
		return nil, err
	}
	if len(p.dims) == 2 && axis != 0 {
		over, pairs := saturable(p)
		r.over, r.pairs = r.over+over, r.pairs+pairs
	}
	out := &written{}
	out.data = r.b.Weight(&onnx.Tensor{Name: r.b.Name(w.name), Type: onnx.Int8, Dims: slices.Clone(p.dims), Data: p.data})
	var dims []int64
	if axis >= 0 {
		dims = []int64{int64(len(p.scales))}
	}
	out.scale = r.b.Weight(onnx.NewFloat(r.b.Name(w.name+"/scale"), p.scales, dims...))
	out.zero = r.b.Weight(&onnx.Tensor{Name: r.b.Name(w.name + "/zero"), Type: onnx.Int8, Dims: append([]int64{}, dims...), Data: make([]byte, len(p.scales))})
	r.weights[key] = out
	return out, nil
}

// quantized writes a float value's quantised form once.
func (r *rewriter) quantized(value string) []string {
	if q := r.activations[value]; q != nil {
		return q
	}
	a := r.o.activationGrid().Fit(r.o.Ranges[value], r.o.SymmetricActivations)
	q := r.parameters(value, a)
	q = append([]string{r.b.Op("QuantizeLinear", value, q[0], q[1])}, q...)
	r.activations[value] = q
	return q
}

// parameters writes a mapping as scalars: scale, zero point.
func (r *rewriter) parameters(value string, a Affine) []string {
	return []string{
		r.b.Weight(onnx.NewFloat(r.b.Name(value+"/scale"), []float32{a.Scale})),
		r.b.Weight(&onnx.Tensor{Name: r.b.Name(value + "/zero"), Type: a.Grid.Type, Dims: []int64{}, Data: []byte{byte(a.Zero)}}),
	}
}

// dequantized writes the numbers that a quantised value stands for: a node
// for each reader, as the runtime's fusions want.
func (r *rewriter) dequantized(q []string) string {
	return r.b.Op("DequantizeLinear", q...)
}

func (r *rewriter) dequantizedWeight(w *written, axis int) string {
	if axis < 0 {
		return r.b.Op("DequantizeLinear", w.data, w.scale, w.zero)
	}
	return r.b.OpAttrs("DequantizeLinear", map[string]onnx.Attr{"axis": int64(axis)}, w.data, w.scale, w.zero)
}

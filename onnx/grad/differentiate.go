package grad

import (
	"slices"

	"galley"
	"galley/onnx"
)

// Options say what to differentiate.
type Options struct {
	// Loss names a float value with one element.
	Loss string
	// Wrt names the initializers and inputs to differentiate with respect to.
	Wrt []string
	// RowGradients names those of Wrt whose Gather gradients leave the graph
	// as rows, to be added by the caller in a fixed order: large embedding
	// tables, whose dense gradient would be nearly all zeros.
	RowGradients []string
	// Outputs names further values to compute.
	Outputs []string
}

// A Training is a graph that computes a loss and its gradients.
type Training struct {
	// Model has the inputs of the original, then each differentiated
	// initializer as an input (Float, if it was of half precision), in the
	// order of Wrt. Its outputs are the loss, the gradients, then
	// Options.Outputs. Nodes that none of these needs are left out.
	Model *onnx.Model
	// Loss names the output that holds the loss.
	Loss string
	// Gradients has an entry for each of Wrt that the loss depends on.
	Gradients map[string]Gradient
	// Unreached lists those of Wrt that the loss does not depend on, in the
	// order of Wrt; initializers among them stay initializers.
	Unreached []string
}

// A Gradient is the sum of a dense output and rows; either may be absent. A
// table that is gathered from and multiplied with has both.
type Gradient struct {
	Dense string // an output of the weight's shape; "" if there is none
	Rows  []RowGradient
}

// A RowGradient is a gradient that is zero outside some rows of a weight
// [V, ...]. An index may occur several times: its rows add up.
type RowGradient struct {
	Indices string // int64 [n], each in [0, V)
	Rows    string // the weight's type, [n, ...]
}

// Differentiate makes the training graph of m, which it does not change.
//
// The error has code Unimplemented if an operator between Wrt and Loss has no
// gradient, and InvalidArgument if the options do not fit the graph.
func Differentiate(m *onnx.Model, opts Options) (*Training, error) {
	if err := onnx.Check(m); err != nil {
		return nil, err
	}
	known, err := onnx.InferShapes(m)
	if err != nil {
		return nil, err
	}
	d := &differentiator{
		model:   m.Clone(),
		opts:    opts,
		wrt:     make(map[string]bool, len(opts.Wrt)),
		known:   known,
		types:   map[string]onnx.Value{},
		pending: map[string][]string{},
		rows:    map[string][]RowGradient{},
		memo:    map[string]string{},
	}
	for _, v := range known.Values() {
		d.types[v.Name] = v
	}
	if err := d.checkOptions(); err != nil {
		return nil, err
	}
	if err := d.widenHalfWeights(); err != nil {
		return nil, err
	}
	d.rewriteForward()
	d.builder = onnx.NewBuilder(d.model.Graph)
	d.builder.SetPrefix("grad/")
	d.markActive()
	if err := d.backward(); err != nil {
		return nil, err
	}
	if err := d.lowerLosses(); err != nil {
		return nil, err
	}
	return d.finish()
}

type differentiator struct {
	model   *onnx.Model
	builder *onnx.Builder
	opts    Options
	wrt     map[string]bool       // opts.Wrt
	known   *onnx.Types           // of the model as given
	types   map[string]onnx.Value // of the forward graph as rewritten

	active  map[string]bool          // values that depend on Wrt and carry a gradient
	pending map[string][]string      // contributions to a value's gradient
	rows    map[string][]RowGradient // by weight
	memo    map[string]string        // emitted values by what they compute
}

func (d *differentiator) checkOptions() error {
	g := d.model.Graph
	known := map[string]bool{}
	for _, v := range g.Inputs {
		known[v.Name] = true
	}
	for _, t := range g.Initializers {
		known[t.Name] = true
	}
	if len(d.opts.Wrt) == 0 {
		return galley.Errorf(galley.InvalidArgument, "wrt", "nothing to differentiate with respect to")
	}
	for _, w := range d.opts.Wrt {
		if !known[w] {
			return galley.Errorf(galley.InvalidArgument, w, "is neither an initializer nor an input of the graph").
				WithRemedy("name initializers or inputs in Wrt")
		}
		if d.wrt[w] {
			return galley.Errorf(galley.InvalidArgument, w, "is named twice in Wrt")
		}
		d.wrt[w] = true
		if !d.types[w].Type.IsFloat() {
			return galley.Errorf(galley.InvalidArgument, w, "is not a floating-point tensor and has no gradient")
		}
	}
	for _, w := range d.opts.RowGradients {
		if !d.wrt[w] {
			return galley.Errorf(galley.InvalidArgument, w, "is in RowGradients but not in Wrt")
		}
	}
	for _, n := range g.Nodes {
		for _, o := range n.Outputs {
			known[o] = true
		}
	}
	for _, o := range append([]string{d.opts.Loss}, d.opts.Outputs...) {
		if !known[o] || o == "" {
			return galley.Errorf(galley.InvalidArgument, o, "is no value of the graph")
		}
	}
	loss := d.types[d.opts.Loss]
	if loss.Type != onnx.Undefined && !loss.Type.IsFloat() {
		return galley.Errorf(galley.InvalidArgument, d.opts.Loss, "is not a floating-point value and cannot be a loss")
	}
	for _, dim := range loss.Shape {
		if dim.Size >= 0 && dim.Size != 1 {
			return galley.Errorf(galley.InvalidArgument, d.opts.Loss, "has shape %v; a loss has one element", loss.Shape).
				WithRemedy("reduce it with ReduceMean or ReduceSum")
		}
	}
	return nil
}

// constant returns the elements of a value that no input and no weight in Wrt
// can change.
func (d *differentiator) constant(value string) (*onnx.Tensor, bool) {
	if d.wrt[value] {
		return nil, false
	}
	return d.known.Constant(value)
}

// markActive finds the values that depend on Wrt through floating-point
// values only.
func (d *differentiator) markActive() {
	d.active = map[string]bool{}
	for _, w := range d.opts.Wrt {
		d.active[w] = true
	}
	for _, n := range d.model.Graph.Nodes {
		if !slices.ContainsFunc(n.Inputs, func(in string) bool { return d.active[in] }) {
			continue
		}
		for _, o := range n.Outputs {
			t := d.types[o].Type
			if o != "" && (t == onnx.Undefined || t.IsFloat()) {
				d.active[o] = true
			}
		}
	}
}

// backward visits the nodes in reverse and appends their gradients.
func (d *differentiator) backward() error {
	loss := d.opts.Loss
	if !d.active[loss] {
		return galley.Errorf(galley.InvalidArgument, loss, "depends on none of the tensors in Wrt").
			WithRemedy("check the names in Wrt, and that no integer or boolean value lies between")
	}
	c := &Context{Builder: d.builder, d: d}
	d.pending[loss] = []string{c.filled(loss, 1)}
	for _, n := range slices.Backward(slices.Clone(d.model.Graph.Nodes)) {
		c.Node = n
		dy := make([]string, len(n.Outputs))
		arrives := false
		for i, o := range n.Outputs {
			if o != "" && d.active[o] {
				dy[i] = d.gradientOf(o)
				arrives = arrives || dy[i] != ""
			}
		}
		if !arrives {
			continue
		}
		f, ok := registered[operator{standardDomain(n.Domain), n.Op}]
		if !ok {
			return unsupported(n)
		}
		dx, err := f(c, dy)
		if err != nil {
			return err
		}
		for i, g := range dx {
			if g != "" && i < len(n.Inputs) && d.active[n.Inputs[i]] {
				d.pending[n.Inputs[i]] = append(d.pending[n.Inputs[i]], g)
			}
		}
	}
	return nil
}

// gradientOf adds up the contributions to a value's gradient; "" if there are
// none. A chain of Add rather than one Sum: ONNX Runtime spreads Add over its
// threads and writes it in place.
func (d *differentiator) gradientOf(value string) string {
	parts := d.pending[value]
	if len(parts) == 0 {
		return ""
	}
	sum := parts[0]
	for _, p := range parts[1:] {
		sum = d.builder.Op("Add", sum, p)
	}
	d.pending[value] = []string{sum}
	return sum
}

func unsupported(n *onnx.Node) error {
	op := n.Op
	if n.Domain != "" {
		op = n.Domain + "." + n.Op
	}
	remedy := "freeze the weights below it, write the operator as others that have a gradient, or register its gradient"
	if isConvolution(n.Op) {
		remedy = "convolutional networks cannot be trained with this engine; freeze the convolutions and train what follows them"
	}
	return galley.Errorf(galley.Unimplemented, nodeName(n), "operator %s has no gradient", op).WithRemedy("%s", remedy)
}

func isConvolution(op string) bool {
	return slices.Contains([]string{
		"Conv", "ConvTranspose", "ConvInteger", "MaxPool", "AveragePool", "GlobalAveragePool",
		"GlobalMaxPool", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "Resize",
	}, op)
}

// nodeName says which node an error is about: its name, or its first output.
func nodeName(n *onnx.Node) string {
	if n.Name != "" {
		return n.Name
	}
	for _, o := range n.Outputs {
		if o != "" {
			return "node of " + o
		}
	}
	return n.Op
}

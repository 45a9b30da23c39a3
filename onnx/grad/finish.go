package grad

import (
	"slices"

	"galley"
	"galley/onnx"
)

// finish turns the differentiated graph into a Training: weights become
// inputs, loss and gradients outputs, and what nothing needs goes.
func (d *differentiator) finish() (*Training, error) {
	g := d.model.Graph
	t := &Training{Model: d.model, Loss: d.opts.Loss, Gradients: map[string]Gradient{}}
	loss := d.types[d.opts.Loss]
	loss.Name = d.opts.Loss
	g.Outputs = []onnx.Value{loss}

	for _, w := range d.opts.Wrt {
		weight := d.types[w]
		grad := Gradient{}
		if dense := d.gradientOf(w); dense != "" {
			grad.Dense = d.output(dense, w+".grad", weight.Type, weight.Shape)
		}
		for _, r := range d.rows[w] {
			n := onnx.Dim{Size: -1}
			rowShape := append(onnx.Shape{n}, weight.Shape[1:]...)
			grad.Rows = append(grad.Rows, RowGradient{
				Indices: d.output(r.Indices, w+".grad.indices", onnx.Int64, onnx.Shape{n}),
				Rows:    d.output(r.Rows, w+".grad.rows", weight.Type, rowShape),
			})
		}
		if grad.Dense == "" && grad.Rows == nil {
			t.Unreached = append(t.Unreached, w)
			continue
		}
		t.Gradients[w] = grad
		if i := slices.IndexFunc(g.Initializers, func(t *onnx.Tensor) bool { return t.Name == w }); i >= 0 {
			g.Initializers = slices.Delete(g.Initializers, i, i+1)
			if !slices.ContainsFunc(g.Inputs, func(v onnx.Value) bool { return v.Name == w }) {
				g.Inputs = append(g.Inputs, onnx.Value{Name: w, Type: weight.Type, Shape: weight.Shape})
			}
		}
	}
	if len(t.Gradients) == 0 {
		return nil, galley.Errorf(galley.InvalidArgument, d.opts.Loss, "has a zero gradient with respect to all of Wrt").
			WithRemedy("look for rounding, comparison or argmax operators between the weights and the loss")
	}
	for _, o := range d.opts.Outputs {
		if !slices.ContainsFunc(g.Outputs, func(v onnx.Value) bool { return v.Name == o }) {
			v := d.types[o]
			v.Name = o
			g.Outputs = append(g.Outputs, v)
		}
	}
	prune(g)
	if slices.ContainsFunc(g.Nodes, func(n *onnx.Node) bool { return n.Domain == microsoft }) {
		d.model.Opsets[microsoft] = 1
	}
	return t, nil
}

// output makes value an output of the graph under a name of its own and
// returns that name.
func (d *differentiator) output(value, name string, t onnx.DataType, shape onnx.Shape) string {
	d.builder.SetPrefix("")
	out := d.builder.Name(name)
	d.builder.Graph.Nodes = append(d.builder.Graph.Nodes, &onnx.Node{
		Name: out, Op: "Identity", Inputs: []string{value}, Outputs: []string{out},
	})
	d.builder.Output(out, t, shape)
	d.builder.SetPrefix("grad/")
	return out
}

// prune removes the nodes and initializers that no output depends on, and the
// notes on values, which the rewriting has outdated. Inputs stay: a caller
// feeds them all.
func prune(g *onnx.Graph) {
	needed := map[string]bool{}
	for _, o := range g.Outputs {
		needed[o.Name] = true
	}
	var kept []*onnx.Node
	for _, n := range slices.Backward(g.Nodes) {
		if !slices.ContainsFunc(n.Outputs, func(o string) bool { return o != "" && needed[o] }) {
			continue
		}
		kept = append(kept, n)
		markInputs(n, needed)
	}
	slices.Reverse(kept)
	g.Nodes = kept
	g.Initializers = slices.DeleteFunc(g.Initializers, func(t *onnx.Tensor) bool { return !needed[t.Name] })
	g.Values = nil
}

// markInputs marks what a node reads, with what its subgraphs may capture.
func markInputs(n *onnx.Node, needed map[string]bool) {
	for _, in := range n.Inputs {
		needed[in] = true
	}
	for _, graphs := range n.Graphs() {
		for _, sub := range graphs {
			for _, o := range sub.Outputs {
				needed[o.Name] = true
			}
			for _, inner := range sub.Nodes {
				markInputs(inner, needed)
			}
		}
	}
}

// cloneModel copies a model so far that nodes, inputs, outputs and the lists
// of initializers can be changed; tensors are shared.
func cloneModel(m *onnx.Model) *onnx.Model {
	c := *m
	g := *m.Graph
	c.Graph = &g
	c.Opsets = map[string]int64{}
	for domain, version := range m.Opsets {
		c.Opsets[domain] = version
	}
	g.Inputs = slices.Clone(g.Inputs)
	g.Outputs = slices.Clone(g.Outputs)
	g.Initializers = slices.Clone(g.Initializers)
	g.Values = slices.Clone(g.Values)
	g.Nodes = make([]*onnx.Node, len(m.Graph.Nodes))
	for i, n := range m.Graph.Nodes {
		node := *n
		node.Inputs = slices.Clone(n.Inputs)
		node.Outputs = slices.Clone(n.Outputs)
		g.Nodes[i] = &node
	}
	return &c
}

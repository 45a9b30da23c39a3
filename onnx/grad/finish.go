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

	initializers := make(map[string]bool, len(g.Initializers))
	for _, tensor := range g.Initializers {
		initializers[tensor.Name] = true
	}
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
		if initializers[w] {
			g.Inputs = append(g.Inputs, onnx.Value{Name: w, Type: weight.Type, Shape: weight.Shape})
		}
	}
	g.Initializers = slices.DeleteFunc(g.Initializers, func(tensor *onnx.Tensor) bool {
		_, fed := t.Gradients[tensor.Name]
		return fed
	})
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
	onnx.RemoveUnused(g)
	g.Values = nil
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

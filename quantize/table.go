package quantize

import (
	"slices"

	"galley/onnx"
)

// table writes a Gather of 8-bit rows, each with a scale of its own.
func (r *rewriter) table(n *onnx.Node) error {
	w, ok := r.constants.matrix(n.Input(0))
	if !ok {
		return unreadable(n.Input(0))
	}
	axis := r.axis(0)
	weight, err := r.weight(w, axis, int8Symmetric)
	if err != nil {
		return err
	}
	out, cast := n.Output(0), onnx.Float
	if w.tensor.Type == onnx.Float16 && r.typeOf(n) == onnx.Float16 {
		cast = onnx.Float16
		if end := r.widened(n); end != "" { // written as float at once
			out, cast = end, onnx.Float
			r.replaced[end] = true
		}
	}
	rows := r.b.Op("Gather", weight.data, n.Input(1))
	value := out
	if cast != onnx.Float {
		value = r.b.Name("rows")
	}
	if axis < 0 {
		r.emit(value, "", "DequantizeLinear", nil, rows, weight.scale, weight.zero)
	} else {
		numbers := r.b.OpAttrs("Cast", toFloat(), rows)
		scales := r.b.Op("Gather", r.column(weight.scale), n.Input(1))
		r.emit(value, "", "Mul", nil, numbers, scales)
	}
	if cast != onnx.Float {
		r.emit(out, "", "Cast", map[string]onnx.Attr{"to": int64(cast)}, value)
	}
	return nil
}

// column makes a vector of scales a column, in place: rows of it broadcast.
func (r *rewriter) column(name string) string {
	t := r.m.Graph.Initializer(name)
	if len(t.Dims) == 1 {
		t.Dims = []int64{t.Dims[0], 1}
	}
	return name
}

// typeOf is the element type of what a Gather of a constant gives.
func (r *rewriter) typeOf(n *onnx.Node) onnx.DataType {
	if p := r.constants.producers[n.Input(0)]; p != nil && p.Op == "Cast" {
		return onnx.DataType(p.AttrInt("to", 0))
	}
	t, _ := r.constants.trace(n.Input(0))
	return t.Type
}

// widened returns the output of the Cast to float that alone reads a node, or
// "".
func (r *rewriter) widened(n *onnx.Node) string {
	readers := r.consumers[n.Output(0)]
	if len(readers) != 1 || readers[0].Op != "Cast" || onnx.DataType(readers[0].AttrInt("to", 0)) != onnx.Float {
		return ""
	}
	if slices.ContainsFunc(r.m.Graph.Outputs, func(v onnx.Value) bool { return v.Name == n.Output(0) }) {
		return ""
	}
	return readers[0].Output(0)
}

package quantize

import "galley/onnx"

// dynamicProduct writes
//
//	xq, xs, xz = DynamicQuantizeLinear(x)
//	out = Cast(MatMulInteger(xq, W, xz, Wz)) * (xs * Ws)
//
// which ONNX Runtime runs as one node.
func (r *rewriter) dynamicProduct(n *onnx.Node, w *matrix, out string) error {
	weight, err := r.weight(w, r.axis(1), r.o.weightGrid())
	if err != nil {
		return err
	}
	x := r.activations[n.Input(0)]
	if x == nil {
		x = r.b.Node("", "DynamicQuantizeLinear", nil, 3, n.Input(0))
		r.activations[n.Input(0)] = x
	}
	sum := r.b.Op("MatMulInteger", x[0], weight.data, x[2], weight.zero)
	sum = r.b.OpAttrs("Cast", toFloat(), sum)
	r.emit(out, "", "Mul", nil, sum, r.b.Op("Mul", x[1], weight.scale))
	return nil
}

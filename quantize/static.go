package quantize

import (
	"slices"

	"galley/onnx"
)

// static writes a product of dequantised inputs in the form that ONNX Runtime
// runs as one node over integers, which depends on what follows:
//
//   - a Gemm, or a MatMul of two dimensions with a bias, which the runtime makes
//     a Gemm, wants its bias quantised, too;
//   - a MatMul alone is one as it is;
//   - before a rectifier, or where the bias does not fit, it is taken for
//     neither: there the product is written over integers at once.
func (r *rewriter) static(n *onnx.Node) error {
	bias, end := n.Input(2), n.Output(0)
	next := r.follower(n)
	if n.Op == "MatMul" && next != nil && next.Op == "Add" && r.flat(n.Input(0)) {
		bias, end = next.Input(0), next.Output(0)
		if bias == n.Output(0) {
			bias = next.Input(1)
		}
	}
	switch {
	case bias != "":
		done, err := r.gemm(n, bias, end)
		if done || err != nil {
			return err
		}
		return r.product(n, r.integerProduct)
	case n.Op == "Gemm":
		_, err := r.gemm(n, "", end)
		return err
	case next != nil && (next.Op == "Relu" || next.Op == "Clip"):
		return r.product(n, r.integerProduct)
	default:
		return r.product(n, r.staticProduct)
	}
}

// follower is the node that alone reads a node's output, or nil.
func (r *rewriter) follower(n *onnx.Node) *onnx.Node {
	readers := r.consumers[n.Output(0)]
	isOutput := slices.ContainsFunc(r.m.Graph.Outputs, func(v onnx.Value) bool { return v.Name == n.Output(0) })
	if len(readers) != 1 || readers[0].Domain != "" || isOutput {
		return nil
	}
	return readers[0]
}

// flat tells values that may have two dimensions.
func (r *rewriter) flat(value string) bool {
	rank := r.types.Rank(value)
	return rank == 2 || rank < 0
}

// gemm writes x W + bias as end; of an Add its node goes. It does not if the
// bias is no constant of the columns, or too large.
func (r *rewriter) gemm(n *onnx.Node, bias, end string) (bool, error) {
	w, err := r.factor(n)
	if err != nil {
		return false, err
	}
	if bias != "" && !slices.Equal(r.constants.dims(bias), w.dims[1:]) || n.Op == "MatMul" && r.types.Rank(n.Input(0)) != 2 {
		return false, nil
	}
	weight, err := r.weight(w, r.axis(1), r.o.weightGrid())
	if err != nil {
		return false, err
	}
	inputs := []string{"", ""}
	if bias != "" {
		scale := r.o.activationGrid().Fit(r.o.Ranges[n.Input(0)], r.o.SymmetricActivations).Scale
		quantized, ok := r.bias(bias, scale, weight, r.axis(1))
		if !ok {
			return false, nil
		}
		inputs = append(inputs, quantized)
	}
	inputs[0], inputs[1] = r.dequantized(r.quantized(n.Input(0))), r.dequantizedWeight(weight, r.axis(1))
	r.emit(end, "", "Gemm", nil, inputs...)
	if end != n.Output(0) {
		r.replaced[end] = true
	}
	return true, nil
}

// staticProduct writes the product of dequantised inputs.
func (r *rewriter) staticProduct(n *onnx.Node, w *matrix, out string) error {
	weight, err := r.weight(w, r.axis(1), r.o.weightGrid())
	if err != nil {
		return err
	}
	x := r.dequantized(r.quantized(n.Input(0)))
	r.emit(out, "", "MatMul", nil, x, r.dequantizedWeight(weight, r.axis(1)))
	return nil
}

// integerProduct writes the product of integers and its scale.
func (r *rewriter) integerProduct(n *onnx.Node, w *matrix, out string) error {
	weight, err := r.weight(w, r.axis(1), r.o.weightGrid())
	if err != nil {
		return err
	}
	x := r.quantized(n.Input(0))
	sum := r.b.Op("MatMulInteger", x[0], weight.data, x[2], weight.zero)
	sum = r.b.OpAttrs("Cast", toFloat(), sum)
	r.emit(out, "", "Mul", nil, sum, r.b.Op("Mul", x[1], weight.scale))
	return nil
}

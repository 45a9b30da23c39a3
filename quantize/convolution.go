package quantize

import (
	"encoding/binary"
	"math"

	"galley/onnx"
)

// convolution writes a Conv over dequantised inputs, whose result is
// quantised again behind its rectifier: the form that ONNX Runtime runs as one
// node over integers.
func (r *rewriter) convolution(n *onnx.Node) (why string, err error) {
	end := rectified(r.m.Graph, r.consumers, n.Output(0))
	in, ok := r.o.Ranges[n.Input(0)]
	_, known := r.o.Ranges[end]
	if !ok || !known {
		return "no ranges of its input and output are known", nil
	}
	w, ok := r.constants.matrix(n.Input(1))
	if !ok {
		return "", unreadable(n.Input(1))
	}
	axis := r.axis(0)
	weight, err := r.weight(w, axis, r.o.weightGrid())
	if err != nil {
		return "", err
	}
	inputs := []string{r.dequantized(r.quantized(n.Input(0))), r.dequantizedWeight(weight, axis)}
	if n.Input(2) != "" {
		bias, ok := r.bias(n.Input(2), r.o.activationGrid().Fit(in, r.o.SymmetricActivations).Scale, weight, axis)
		if !ok {
			return "its bias is too large beside its weights", nil
		}
		inputs = append(inputs, bias)
	}
	y := n.Output(0)
	if end == y {
		y = r.b.Name("convolution")
		r.emit(y, "", "Conv", n.Attrs, inputs...)
		r.requantized(y, end)
		return "", nil
	}
	r.emit(y, "", "Conv", n.Attrs, inputs...)
	rectifier := r.consumers[y][0].Clone()
	r.replaced[end] = true
	value := r.b.Name("rectified")
	rectifier.Outputs[0] = value
	r.b.Graph.Nodes = append(r.b.Graph.Nodes, rectifier)
	r.requantized(value, end)
	return "", nil
}

// requantized writes value, quantised and dequantised, as end, and lets later
// products read the quantised form.
func (r *rewriter) requantized(value, end string) {
	a := r.o.activationGrid().Fit(r.o.Ranges[end], r.o.SymmetricActivations)
	p := r.parameters(end, a)
	q := r.b.Op("QuantizeLinear", value, p[0], p[1])
	r.emit(end, "", "DequantizeLinear", nil, q, p[0], p[1])
	r.activations[end] = []string{q, p[0], p[1]}
}

// bias writes a constant vector in the scale of the sums that it is added to.
// It does not if 32 bits do not hold it.
func (r *rewriter) bias(name string, input float32, weight *written, axis int) (string, bool) {
	b, ok := r.constants.matrix(name)
	if !ok {
		return "", false
	}
	scales, _ := r.m.Graph.Initializer(weight.scale).Floats()
	product := make([]float32, len(scales))
	for i, s := range scales {
		product[i] = s * input
	}
	values := make([]int32, len(b.all()))
	for i, x := range b.all() {
		scale := product[0]
		if axis >= 0 {
			scale = product[i]
		}
		q := math.RoundToEven(float64(x) / float64(scale))
		if !(math.Abs(q) < 1<<30) { // the sums need room beside it
			return "", false
		}
		values[i] = int32(q)
	}
	data := r.b.Weight(int32s(r.b.Name(b.name), values, int64(len(values))))
	if axis < 0 {
		scale := r.b.Weight(onnx.NewFloat(r.b.Name(b.name+"/scale"), product))
		return r.b.Op("DequantizeLinear", data, scale), true
	}
	scale := r.b.Weight(onnx.NewFloat(r.b.Name(b.name+"/scale"), product, int64(len(product))))
	return r.b.OpAttrs("DequantizeLinear", map[string]onnx.Attr{"axis": int64(0)}, data, scale), true
}

// rectified returns the value behind the Relu that alone reads a value, or
// the value itself.
func rectified(g *onnx.Graph, consumers map[string][]*onnx.Node, value string) string {
	readers := consumers[value]
	if len(readers) != 1 || readers[0].Domain != "" || readers[0].Op != "Relu" {
		return value
	}
	for _, v := range g.Outputs {
		if v.Name == value {
			return value
		}
	}
	return readers[0].Output(0)
}

// int32s makes a tensor of 32-bit integers.
func int32s(name string, values []int32, dims ...int64) *onnx.Tensor {
	data := make([]byte, 4*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint32(data[4*i:], uint32(v))
	}
	return &onnx.Tensor{Name: name, Type: onnx.Int32, Dims: append([]int64{}, dims...), Data: data}
}

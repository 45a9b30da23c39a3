package onnx

// Limits bound what reading a model may take. A zero field has the default.
type Limits struct {
	Bytes       int64 // of the model file; default 2 GiB, the format's own bound
	TensorBytes int64 // of all tensors together, external data included; default 8 GiB
	Nodes       int   // in all graphs and functions together; default 250,000
	Tensors     int   // in all graphs and attributes together; default 250,000
	Elements    int   // parts of any kind (names, attributes, dimensions, ...); default 5,000,000
	Depth       int   // nesting of subgraphs; default 16, at most 64
}

func (l Limits) withDefaults() Limits {
	if l.Bytes <= 0 {
		l.Bytes = 2 << 30
	}
	if l.TensorBytes <= 0 {
		l.TensorBytes = 8 << 30
	}
	if l.Nodes <= 0 {
		l.Nodes = 250_000
	}
	if l.Tensors <= 0 {
		l.Tensors = 250_000
	}
	if l.Elements <= 0 {
		l.Elements = 5_000_000
	}
	if l.Depth <= 0 {
		l.Depth = 16
	}
	l.Depth = min(l.Depth, maxGraphDepth)
	return l
}

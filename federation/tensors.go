package federation

import (
	"encoding/binary"
	"io"
	"math"
	"slices"
	"strings"

	"galley"
	"galley/onnx"
)

// WriteTensors writes the weights of a graph, which must be float tensors, as
// they are the base of a round.
func WriteTensors(w io.Writer, weights []*onnx.Tensor) (galley.Digest, error) {
	l, err := LayoutOf(weights)
	if err != nil {
		return "", err
	}
	out, err := NewWriter(w, l)
	if err != nil {
		return "", err
	}
	for _, t := range inOrder(weights) {
		values, ok := t.Floats()
		if !ok {
			return "", galley.Errorf(galley.InvalidArgument, t.Name, "has %d bytes for the shape %v", len(t.Data), t.Dims)
		}
		if err := out.Write(values); err != nil {
			return "", err
		}
	}
	return out.Close()
}

// ReadTensors puts weights into the tensors of a graph: all of them, or none if
// there is an error. What the tensors held is not written to.
func ReadTensors(r io.Reader, weights []*onnx.Tensor) (galley.Digest, error) {
	l, err := LayoutOf(weights)
	if err != nil {
		return "", err
	}
	in, err := NewReader(r, l)
	if err != nil {
		return "", err
	}
	ordered := inOrder(weights)
	read := make([][]byte, len(ordered))
	row := make([]float32, chunk)
	for i, t := range ordered {
		for left := int(t.Size()); left > 0; {
			part := row[:min(left, chunk)]
			if err := in.Read(part); err != nil {
				return "", err
			}
			// Grows with what has come: a layout alone allocates nothing.
			for _, v := range part {
				read[i] = binary.LittleEndian.AppendUint32(read[i], math.Float32bits(v))
			}
			left -= len(part)
		}
	}
	digest, err := in.Close()
	if err != nil {
		return "", err
	}
	for i, t := range ordered {
		t.Data = read[i]
	}
	return digest, nil
}

// inOrder returns the tensors in a layout's order.
func inOrder(weights []*onnx.Tensor) []*onnx.Tensor {
	return slices.SortedFunc(slices.Values(weights), func(a, b *onnx.Tensor) int { return strings.Compare(a.Name, b.Name) })
}

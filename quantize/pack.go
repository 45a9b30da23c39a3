package quantize

import (
	"math"

	"galley"
	"galley/onnx"
)

// A packed weight is integers with their scales; the zero point is 0.
type packed struct {
	data   []byte // int8
	dims   []int64
	scales []float32 // one, or one for each index of axis
	axis   int
}

// pack quantises a weight symmetrically. axis is the one whose indices have a
// scale each; below 0 there is one scale for all.
func pack(m *matrix, axis int, g Grid) (*packed, error) {
	n, inner := 1, len(m.values)
	if axis >= 0 {
		n, inner = int(m.dims[axis]), 1
		for _, d := range m.dims[axis+1:] {
			inner *= int(d)
		}
	}
	p := &packed{data: make([]byte, len(m.values)), dims: m.dims, axis: axis, scales: make([]float32, n)}
	inverse := make([]float64, n)
	for i, most := range magnitudes(m.values, n, inner) {
		if most >= infinity {
			return nil, notFinite(m.name)
		}
		greatest := math.Float32frombits(most)
		p.scales[i] = g.Fit(Range{-greatest, greatest}, true).Scale
		inverse[i] = 1 / float64(p.scales[i])
	}
	round := func(x float32, inverse float64) byte { // hardly beyond the grid, hence an int32
		return byte(min(max(int32(math.RoundToEven(float64(x)*inverse)), g.Low), g.High))
	}
	for at := 0; at < len(m.values); at += n * inner {
		if inner == 1 {
			to := p.data[at : at+n]
			for i, x := range m.values[at : at+n] {
				to[i] = round(x, inverse[i])
			}
			continue
		}
		for i := range n {
			to := p.data[at+i*inner : at+(i+1)*inner]
			for j, x := range m.values[at+i*inner : at+(i+1)*inner] {
				to[j] = round(x, inverse[i])
			}
		}
	}
	return p, nil
}

// blockValues is how many values packRows reads at a time, at least a row.
const blockValues = 1 << 18

// packRows is pack of a tensor of floats with a scale for each row. It reads a
// block of rows at a time: all of a table as floats would be the most memory
// that quantising takes.
func packRows(t *onnx.Tensor, name string, g Grid) (*packed, error) {
	rows := t.Dims[0]
	p := &packed{dims: t.Dims, data: make([]byte, 0, t.Size()), scales: make([]float32, 0, rows)}
	step := max(blockValues*rows/max(t.Size(), 1), 1)
	for at := int64(0); at < rows; at += step {
		end := min(at+step, rows)
		block := &onnx.Tensor{Type: t.Type, Dims: append([]int64{end - at}, t.Dims[1:]...)}
		bytes := int64(len(t.Data)) / rows
		block.Data = t.Data[at*bytes : end*bytes]
		values, ok := block.Floats()
		if !ok {
			return nil, unreadable(name)
		}
		q, err := pack(&matrix{name: name, dims: block.Dims, values: values}, 0, g)
		if err != nil {
			return nil, err
		}
		p.data, p.scales = append(p.data, q.data...), append(p.scales, q.scales...)
	}
	return p, nil
}

func unreadable(weight string) error {
	return galley.Errorf(galley.Internal, "weight "+galley.Clip(weight, 80), "cannot be read")
}

// infinity is the bits of it; only those of NaN are more.
const infinity = 0xff << 23

// magnitudes are the bits of the greatest magnitude at each index of an axis:
// they are ordered as the numbers are, and as integers compared faster.
func magnitudes(values []float32, n, inner int) []uint32 {
	greatest := make([]uint32, n)
	for at := 0; at < len(values); at += n * inner {
		if inner == 1 {
			for i, x := range values[at : at+n] {
				greatest[i] = max(greatest[i], math.Float32bits(x)&^(1<<31))
			}
			continue
		}
		for i := range n {
			most := greatest[i]
			for _, x := range values[at+i*inner : at+(i+1)*inner] {
				most = max(most, math.Float32bits(x)&^(1<<31))
			}
			greatest[i] = most
		}
	}
	return greatest
}

func notFinite(weight string) error {
	return galley.Errorf(galley.FailedPrecondition, "weight "+galley.Clip(weight, 80), "holds a number that is not finite").
		WithRemedy("the model is damaged or its training diverged: train it again")
}

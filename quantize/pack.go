package quantize

import (
	"math"

	"galley"
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
	count := 1
	for _, d := range m.dims {
		count *= int(d)
	}
	n, inner := 1, count // indices of axis, and numbers in a row that have the same
	if axis >= 0 {
		n, inner = int(m.dims[axis]), 1
		for _, d := range m.dims[axis+1:] {
			inner *= int(d)
		}
	}
	unit := max(inner, 1)
	if inner == 1 {
		unit = max(n, 1)
	}
	greatest := make([]uint32, n)
	for at, values := range m.blocks(unit) {
		magnitudes(greatest, values, at, inner)
	}
	p := &packed{data: make([]byte, count), dims: m.dims, axis: axis, scales: make([]float32, n)}
	inverse := make([]float64, n)
	for i, bits := range greatest {
		if bits >= infinity {
			return nil, notFinite(m.name)
		}
		most := math.Float32frombits(bits)
		p.scales[i] = g.Fit(Range{-most, most}, true).Scale
		inverse[i] = 1 / float64(p.scales[i])
	}
	for at, values := range m.blocks(unit) {
		g.round(p.data[at:], values, inverse, at, inner)
	}
	return p, nil
}

// infinity is the bits of it; only those of NaN are more.
const infinity = 0xff << 23

// magnitudes raises the bits of the greatest magnitude at each index of an axis
// to those of a block, which begins at the given number of the weight. Bits are
// ordered as the numbers are, and are compared faster.
func magnitudes(greatest []uint32, block []float32, at, inner int) {
	if inner == 1 {
		for ; len(block) > 0; block = block[len(greatest):] {
			for i, x := range block[:len(greatest)] {
				greatest[i] = max(greatest[i], math.Float32bits(x)&^(1<<31))
			}
		}
		return
	}
	for ; len(block) > 0; block, at = block[inner:], at+inner {
		i := at / inner % len(greatest)
		most := greatest[i]
		for _, x := range block[:inner] {
			most = max(most, math.Float32bits(x)&^(1<<31))
		}
		greatest[i] = most
	}
}

// round quantises a block by the inverse of the scale at each index of an axis.
func (g Grid) round(to []byte, block []float32, inverse []float64, at, inner int) {
	quantize := func(x float32, inverse float64) byte { // hardly beyond the grid, so that an int32 holds it
		return byte(min(max(int32(math.RoundToEven(float64(x)*inverse)), g.Low), g.High))
	}
	if inner == 1 {
		for n := len(inverse); len(block) > 0; block, to = block[n:], to[n:] {
			for i, x := range block[:n] {
				to[i] = quantize(x, inverse[i])
			}
		}
		return
	}
	for ; len(block) > 0; block, to, at = block[inner:], to[inner:], at+inner {
		f := inverse[at/inner%len(inverse)]
		for i, x := range block[:inner] {
			to[i] = quantize(x, f)
		}
	}
}

func unreadable(weight string) error {
	return galley.Errorf(galley.Internal, "weight "+galley.Clip(weight, 80), "cannot be read")
}

func notFinite(weight string) error {
	return galley.Errorf(galley.FailedPrecondition, "weight "+galley.Clip(weight, 80), "holds a number that is not finite").
		WithRemedy("the model is damaged or its training diverged: train it again")
}

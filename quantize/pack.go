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
	outer, n, inner := 1, 1, len(m.values)
	if axis >= 0 {
		outer, n, inner = split(m.dims, axis)
	}
	greatest := make([]float32, n)
	bad := float32(0) // NaN as soon as a number is not finite
	at := 0
	for range outer {
		for i := range n {
			most := greatest[i]
			for _, x := range m.values[at : at+inner] {
				most = max(most, abs(x))
				bad += x - x
			}
			greatest[i] = most
			at += inner
		}
	}
	if bad != 0 {
		return nil, notFinite(m.name)
	}
	p := &packed{data: make([]byte, len(m.values)), dims: m.dims, axis: axis, scales: make([]float32, n)}
	inverse := make([]float64, n)
	for i, most := range greatest {
		p.scales[i] = g.Fit(Range{-most, most}, true).Scale
		inverse[i] = 1 / float64(p.scales[i])
	}
	low, high := float64(g.Low), float64(g.High)
	at = 0
	for range outer {
		for i := range n {
			to := p.data[at : at+inner]
			for j, x := range m.values[at : at+inner] {
				q := math.RoundToEven(float64(x) * inverse[i])
				to[j] = byte(int8(min(max(q, low), high)))
			}
			at += inner
		}
	}
	return p, nil
}

// split returns the sizes before, of and behind an axis.
func split(dims []int64, axis int) (outer, n, inner int) {
	outer, n, inner = 1, int(dims[axis]), 1
	for i, d := range dims {
		if i < axis {
			outer *= int(d)
		}
		if i > axis {
			inner *= int(d)
		}
	}
	return outer, n, inner
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

func notFinite(weight string) error {
	return galley.Errorf(galley.FailedPrecondition, "weight "+galley.Clip(weight, 80), "holds a number that is not finite").
		WithRemedy("the model is damaged or its training diverged: train it again")
}

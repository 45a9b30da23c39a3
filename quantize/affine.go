package quantize

import (
	"math"

	"galley/onnx"
)

// A Grid is the integers that quantised values may take.
type Grid struct {
	Type      onnx.DataType // Uint8, Int8, or Int32 of biases
	Low, High int32
}

// The grids of 8 bits. Those of 7 are for weights where sums of two products
// must fit 16 bits; see Saturates.
var (
	uint8Grid     = Grid{onnx.Uint8, 0, 255}
	int8Grid      = Grid{onnx.Int8, -128, 127}
	int8Symmetric = Grid{onnx.Int8, -127, 127}
	int7Grid      = Grid{onnx.Int8, -64, 64}
)

// A Range is the least and the greatest value to represent.
type Range struct {
	Low  float32 `json:"low"`
	High float32 `json:"high"`
}

// An Affine maps integers to numbers: x = Scale * (q - Zero).
type Affine struct {
	Scale float32
	Zero  int32
	Grid  Grid
}

// Fit returns the mapping that covers a range, which is widened to contain 0:
// zero has to be exact, since padding and rectifiers give it. A symmetric one
// has its zero in the middle of the grid. A range without width gets scale 1.
func (g Grid) Fit(r Range, symmetric bool) Affine {
	low, high := math.Min(float64(r.Low), 0), math.Max(float64(r.High), 0)
	if symmetric {
		high = math.Max(-low, high)
		low = -high
	}
	a := Affine{Scale: 1, Grid: g}
	steps := float64(g.High) - float64(g.Low)
	scale := (high - low) / steps
	if scale >= 0x1p-126 { // else its inverse overflows
		a.Scale = float32(scale)
	}
	switch {
	case symmetric:
		a.Zero = int32(math.RoundToEven((float64(g.Low) + float64(g.High)) / 2))
	case scale >= 0x1p-126:
		a.Zero = g.clamp(math.RoundToEven(float64(g.Low) - low/scale))
	default:
		a.Zero = g.clamp(0)
	}
	return a
}

// Quantize returns the integer nearest to x, the even one of two.
func (a Affine) Quantize(x float32) int32 {
	return a.Grid.clamp(math.RoundToEven(float64(x)/float64(a.Scale)) + float64(a.Zero))
}

// Dequantize returns the number that q stands for.
func (a Affine) Dequantize(q int32) float32 { return a.Scale * float32(q-a.Zero) }

// Covers returns what the grid's ends stand for.
func (a Affine) Covers() Range {
	return Range{a.Dequantize(a.Grid.Low), a.Dequantize(a.Grid.High)}
}

func (g Grid) clamp(x float64) int32 {
	switch {
	case !(x > float64(g.Low)): // NaN, too
		return g.Low
	case x >= float64(g.High):
		return g.High
	default:
		return int32(x)
	}
}

// rangeOf returns the range of some values and 0; ok is false if one is not
// finite.
//
// The bits of floats are ordered as integers are: as signed ones the highest is
// that of the highest value, as unsigned ones that of the lowest negative one.
// Four lanes without branches keep the processor busy.
func rangeOf(values []float32) (r Range, ok bool) {
	var high [4]int32
	var low [4]uint32
	for ; len(values) >= 4; values = values[4:] {
		a, b, c, d := math.Float32bits(values[0]), math.Float32bits(values[1]), math.Float32bits(values[2]), math.Float32bits(values[3])
		high[0], low[0] = max(high[0], int32(a)), max(low[0], a)
		high[1], low[1] = max(high[1], int32(b)), max(low[1], b)
		high[2], low[2] = max(high[2], int32(c)), max(low[2], c)
		high[3], low[3] = max(high[3], int32(d)), max(low[3], d)
	}
	for _, x := range values {
		bits := math.Float32bits(x)
		high[0], low[0] = max(high[0], int32(bits)), max(low[0], bits)
	}
	const sign = 1 << 31
	most, least := max(high[0], high[1], high[2], high[3]), max(low[0], low[1], low[2], low[3])
	r.High = math.Float32frombits(uint32(most))
	if least > sign {
		r.Low = math.Float32frombits(least)
	}
	return r, most < infinity && least < sign|infinity
}

package page

import (
	"math"
	"strconv"
	"strings"
)

// A scale maps figures to pixels.
type scale struct{ from, to, start, end float64 }

// at is the place of a figure; what lies outside of the scale is at its end.
func (s scale) at(x float64) float64 {
	if math.IsNaN(x) || s.to <= s.from {
		return s.start
	}
	return s.start + (min(s.to, max(s.from, x))-s.from)/(s.to-s.from)*(s.end-s.start)
}

// A Tick is a mark of an axis.
type Tick struct {
	At    float64
	Label string
}

// ticks returns marks at round figures, about as many as wanted, labelled in
// units of unit (.01 for percent).
func (s scale) ticks(wanted int, unit float64) []Tick {
	span := (s.to - s.from) / unit
	if !(span > 0) || math.IsInf(span, 0) {
		return nil
	}
	step := math.Pow(10, math.Floor(math.Log10(span/float64(wanted))))
	for _, times := range []float64{2, 2.5, 2} { // 2, 5, 10
		if span/step <= float64(wanted) {
			break
		}
		step *= times
	}
	var out []Tick
	for k := math.Ceil(s.from/unit/step - 1e-9); k*step <= s.to/unit+step*1e-9; k++ {
		label := strconv.FormatFloat(math.Round(k*step*1e6)/1e6+0, 'f', -1, 64)
		out = append(out, Tick{s.at(k * step * unit), strings.Replace(label, "-", "−", 1)})
	}
	return out
}

// around returns a scale from a little below the least to a little above the
// greatest figure, within bounds.
func around(figures []float64, least, most, start, end float64) scale {
	low, high := math.Inf(1), math.Inf(-1)
	for _, x := range figures {
		if !math.IsNaN(x) {
			low, high = min(low, x), max(high, x)
		}
	}
	if low > high {
		low, high = least, most
	}
	room := max(.01, .06*(high-low))
	return scale{max(least, low-room), min(most, high+room), start, end}
}

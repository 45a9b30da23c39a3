package page

import (
	"fmt"
	"math"

	"galley/evals"
)

// A LatencyPlot is a histogram of single requests on a logarithmic axis.
type LatencyPlot struct {
	ID, Title, Desc string
	Bars            []Bar
	Lines           []Tick // p50 and p99
	X, Y            []Tick
	Left, Bottom    float64
	Top             float64
	Width, Height   float64
}

// A Bar is a bucket, in pixels.
type Bar struct {
	X, Y, W, H float64
	Tip        string
}

// The times that a plot can have, in milliseconds: from less than a clock
// sees to a year.
const (
	leastMS = 1e-9
	mostMS  = 3e10
)

func newLatencyPlot(l evals.Latency) *LatencyPlot {
	if len(l.Histogram) == 0 {
		return nil
	}
	first, last := l.Histogram[0].FromMS, l.Histogram[len(l.Histogram)-1].ToMS
	if !(first >= leastMS && last >= first && last <= mostMS) {
		return nil
	}
	const left, height = 56.0, 200.0
	p := &LatencyPlot{
		ID: "latency", Title: "Latency of single requests", Left: left, Top: 26, Bottom: 26 + height, Width: plotWidth, Height: 26 + height + axisRoom,
		Desc: fmt.Sprintf("Histogram of %d requests: half took less than %s, one in a hundred more than %s.", l.N, milliseconds(l.P50), milliseconds(l.P99)),
	}
	most := 0
	for _, b := range l.Histogram {
		most = max(most, b.N)
	}
	if last <= first*1.001 { // all in one moment
		first, last = first/1.1, last*1.1
	}
	x := scale{math.Log(first), math.Log(last), left, plotWidth - 16}
	y := scale{0, float64(max(1, most)), p.Bottom, p.Top}
	for _, b := range l.Histogram {
		from, to := x.at(math.Log(max(first, b.FromMS))), x.at(math.Log(max(first, b.ToMS)))
		p.Bars = append(p.Bars, Bar{X: from, W: max(1, to-from-1), Y: y.at(float64(b.N)), H: p.Bottom - y.at(float64(b.N)),
			Tip: fmt.Sprintf("%s to %s: %d requests", milliseconds(b.FromMS), milliseconds(b.ToMS), b.N)})
	}
	p.X, p.Y = logTicks(x), y.ticks(4, 1)
	p.Lines = []Tick{{x.at(math.Log(max(first, l.P50))), "p50"}, {x.at(math.Log(max(first, l.P99))), "p99"}}
	if p.Lines[1].At-p.Lines[0].At < 30 { // their names would lie on each other
		p.Lines[0].Label, p.Lines[1].Label = "", "p50, p99"
	}
	return p
}

// logTicks marks round times on an axis of logarithms: powers of ten and,
// where they are few, what lies between.
func logTicks(s scale) []Tick {
	for _, steps := range [][]float64{{1}, {1, 2, 5}, {1, 1.5, 2, 3, 4, 5, 6, 8}} {
		var out []Tick
		for power := math.Floor(s.from / math.Ln10); power <= s.to/math.Ln10+1e-9; power++ {
			for _, step := range steps {
				value := step * math.Pow(10, power)
				if at := math.Log(value); at >= s.from-1e-9 && at <= s.to+1e-9 {
					out = append(out, Tick{s.at(at), figure(value)})
				}
			}
		}
		if len(out) >= 3 || len(steps) == 8 {
			return out
		}
	}
	return nil
}

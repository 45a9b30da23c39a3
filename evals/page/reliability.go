package page

import (
	"fmt"

	"galley/evals"
)

// A ReliabilityPlot shows how often answers of each confidence are right; on
// the diagonal a model is as sure as it should be.
type ReliabilityPlot struct {
	ID, Title, Desc string
	Size            float64 // of the plot's square
	Left, Top       float64
	Width, Height   float64
	X, Y            []Tick
	Points          []Point
}

// A Point is a bin, with the interval of its accuracy.
type Point struct {
	X, Y, Low, High float64
	Tip             string
}

func newReliabilityPlot(bins []evals.Bin, ece evals.Metric) *ReliabilityPlot {
	if len(bins) == 0 {
		return nil
	}
	const size, left = 340.0, 56.0
	p := &ReliabilityPlot{
		ID: "reliability", Title: "Reliability diagram", Size: size, Left: left, Top: plotTop,
		Width: left + size + 20, Height: plotTop + size + axisRoom,
		Desc: fmt.Sprintf("Accuracy against confidence in %d bins. The calibration error is %s, with 95 %% confidence between %s and %s.",
			len(bins), percent(ece.Value), percent(ece.Low), percent(ece.High)),
	}
	x, y := scale{0, 1, left, left + size}, scale{0, 1, plotTop + size, plotTop}
	p.X, p.Y = x.ticks(5, .01), y.ticks(5, .01)
	for _, b := range bins {
		p.Points = append(p.Points, Point{
			X: x.at(b.Confidence), Y: y.at(b.Accuracy.Value), Low: y.at(b.Accuracy.Low), High: y.at(b.Accuracy.High),
			Tip: fmt.Sprintf("%d rows with confidence %s: %s right (%s to %s)",
				b.N, percent(b.Confidence), percent(b.Accuracy.Value), percent(b.Accuracy.Low), percent(b.Accuracy.High)),
		})
	}
	return p
}

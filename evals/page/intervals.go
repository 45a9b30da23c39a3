package page

import "galley/evals"

// An IntervalPlot has a row for each of some things, with a dot and its
// interval for each of some series.
type IntervalPlot struct {
	ID, Title, Desc string
	Series          []Series
	Rows            []IntervalRow
	Ticks           []Tick
	AxisLabel       string
	Zero            float64 // where the line of no difference is; 0 for none
	Left            float64 // width of the labels
	Width, Height   float64
	Bottom          float64 // y of the axis
}

// Series names one kind of dots; Class is its colour, "a" or "b".
type Series struct{ Name, Class string }

// An IntervalRow is a label with its dots.
type IntervalRow struct {
	Label string
	Y     float64
	Marks []Mark
}

// A Mark is a dot with its interval, in pixels.
type Mark struct {
	X, Low, High, Y float64
	Class           string
	Tip             string
}

// A line is what becomes a row of a plot.
type line struct {
	label string
	marks []evals.Metric // of each series; N 0 for none
}

// The sizes of plots, in pixels.
const (
	plotWidth  = 720.0
	labelWidth = 190.0
	rowHeight  = 26.0
	plotTop    = 12.0
	axisRoom   = 44.0
)

// newIntervalPlot lays lines out. With differences the scale holds zero.
func newIntervalPlot(p IntervalPlot, lines []line, differences bool) *IntervalPlot {
	if len(lines) == 0 {
		return nil
	}
	var figures []float64
	least, most, format := 0.0, 1.0, percent
	if differences {
		figures, least, most, format = append(figures, 0), -1, 1, points
	}
	for _, l := range lines {
		for _, m := range l.marks {
			if m.N > 0 {
				figures = append(figures, m.Value, m.Low, m.High)
			}
		}
	}
	p.Left, p.Width = labelWidth, plotWidth
	x := around(figures, least, most, p.Left, p.Width-16)
	for i, l := range lines {
		row := IntervalRow{Label: l.label, Y: plotTop + rowHeight*(float64(i)+.5)}
		for k, m := range l.marks {
			if m.N == 0 {
				continue
			}
			// Several series stand one below the other.
			y := row.Y + (float64(k)-float64(len(l.marks)-1)/2)*8
			row.Marks = append(row.Marks, Mark{X: x.at(m.Value), Low: x.at(m.Low), High: x.at(m.High), Y: y, Class: p.Series[k].Class,
				Tip: l.label + ", " + p.Series[k].Name + ": " + format(m.Value) + " (" + format(m.Low) + " to " + format(m.High) + ")"})
		}
		p.Rows = append(p.Rows, row)
	}
	p.Bottom = plotTop + rowHeight*float64(len(lines)) + 4
	p.Height = p.Bottom + axisRoom
	p.Ticks = x.ticks(8, .01)
	if differences {
		p.Zero = x.at(0)
	}
	return &p
}

package page

import (
	"fmt"

	"galley/evals"
)

// A Heatmap is a confusion matrix: a row for each label, a column for each
// answer, coloured by the share of the label's rows.
type Heatmap struct {
	ID, Title, Desc string
	Cells           []HeatCell
	Rows, Columns   []Tick // labels, where they can be read
	Left, Top       float64
	Side, Cell      float64 // of the matrix, of a cell
	Width, Height   float64
}

// A HeatCell is a pair of label and answer that occurs.
type HeatCell struct {
	X, Y    float64
	Right   bool
	Opacity string
	Text    string // the count, where it can be read
	Tip     string
}

// What fits: labels beside at most so many rows, counts into at most so many.
const (
	labelledRows = 40
	numberedRows = 12
)

func newHeatmap(c *evals.Confusion) *Heatmap {
	if c == nil || len(c.Labels) == 0 || len(c.Labels) > evals.MaxConfusionLabels || len(c.Counts) != len(c.Labels) {
		return nil
	}
	n := float64(len(c.Labels))
	h := &Heatmap{ID: "confusion", Title: "Confusion matrix", Left: 24, Top: 24, Cell: max(6, min(46, 460/n))}
	if len(c.Labels) <= labelledRows {
		h.Left, h.Top = 150, 120
	}
	h.Side = h.Cell * n
	h.Width, h.Height = h.Left+h.Side+80, h.Top+h.Side+24
	right, all := 0, 0
	for i, row := range c.Counts {
		sum := 0
		for _, k := range row {
			sum += k
		}
		all += sum
		for j, k := range row {
			if j >= len(c.Labels) || k <= 0 {
				continue
			}
			share := float64(k) / float64(sum)
			cell := HeatCell{
				X: h.Left + float64(j)*h.Cell, Y: h.Top + float64(i)*h.Cell, Right: i == j,
				Opacity: fmt.Sprintf("%.2f", .08+.5*share),
				Tip:     fmt.Sprintf("%s answered as %s: %d of %d rows (%s)", c.Labels[i], c.Labels[j], k, sum, percent(share)),
			}
			if i == j {
				right += k
			}
			if len(c.Labels) <= numberedRows {
				cell.Text = fmt.Sprint(k)
			}
			h.Cells = append(h.Cells, cell)
		}
	}
	if len(c.Labels) <= labelledRows {
		for i, label := range c.Labels {
			at := (float64(i) + .5) * h.Cell
			h.Rows = append(h.Rows, Tick{h.Top + at, label})
			h.Columns = append(h.Columns, Tick{h.Left + at, label})
		}
	}
	h.Desc = fmt.Sprintf("%d labels, %d of %d rows on the diagonal, which is where answers are right. A row is a label, a column an answer.", len(c.Labels), right, all)
	return h
}

package evals

import (
	"cmp"
	"slices"
)

// counts is a confusion matrix that holds only the cells that occur, so that
// thousands of labels cost no more than the rows seen.
type counts struct {
	n     int
	cells map[cell]int
}

type cell struct{ gold, predicted int32 }

func (c *counts) add(gold, predicted int) {
	if c.cells == nil {
		c.cells = make(map[cell]int)
	}
	c.cells[cell{int32(gold), int32(predicted)}]++
	c.n++
}

func (c *counts) correct() int {
	n := 0
	for at, k := range c.cells {
		if at.gold == at.predicted {
			n += k
		}
	}
	return n
}

// sorted returns the cells and their counts in the order of the matrix.
func (c *counts) sorted() ([]cell, []int) {
	at := make([]cell, 0, len(c.cells))
	for k := range c.cells {
		at = append(at, k)
	}
	slices.SortFunc(at, func(a, b cell) int {
		return cmp.Or(cmp.Compare(a.gold, b.gold), cmp.Compare(a.predicted, b.predicted))
	})
	n := make([]int, len(at))
	for i, k := range at {
		n[i] = c.cells[k]
	}
	return at, n
}

// margins are a label's hits and how often it was the truth and the answer.
type margins struct{ hits, gold, predicted int }

// f1 is the harmonic mean of precision and recall; 0 without a hit.
func (m margins) f1() float64 {
	if m.gold+m.predicted == 0 {
		return 0
	}
	return 2 * float64(m.hits) / float64(m.gold+m.predicted)
}

func (m margins) precision() float64 { return ratio(m.hits, m.predicted) }
func (m margins) recall() float64    { return ratio(m.hits, m.gold) }

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// tally writes the margins of the matrix into by, one per label.
func tally(by []margins, at []cell, n []int) {
	clear(by)
	for i, c := range at {
		by[c.gold].gold += n[i]
		by[c.predicted].predicted += n[i]
		if c.gold == c.predicted {
			by[c.gold].hits += n[i]
		}
	}
}

// macroF1 is the mean F1 of the labels that occur as truth or as answer,
// which is what scikit-learn's f1_score(average="macro") computes.
func macroF1(by []margins) float64 {
	sum, labels := 0.0, 0
	for _, m := range by {
		if m.gold+m.predicted > 0 {
			sum += m.f1()
			labels++
		}
	}
	if labels == 0 {
		return 0
	}
	return sum / float64(labels)
}

// MaxConfusionLabels is the most labels of which a report shows the whole
// confusion matrix.
const MaxConfusionLabels = 100

// A Confusion is how often a label (the row) got an answer (the column).
type Confusion struct {
	Labels []string `json:"labels"`
	Counts [][]int  `json:"counts"`
}

// MaxConfusedPairs is the most pairs of labels that a report names as confused.
const MaxConfusedPairs = 30

// A ConfusedPair is a label that got another as its answer.
type ConfusedPair struct {
	Label  string  `json:"label"`
	Answer string  `json:"answer"`
	N      int     `json:"n"`
	Share  float64 `json:"share"` // of the rows with this label
}

// A LabelScore is how well one label is recognised.
type LabelScore struct {
	Label     string  `json:"label"`
	N         int     `json:"n"` // rows with this label
	Precision float64 `json:"precision"`
	Recall    float64 `json:"recall"`
	F1        float64 `json:"f1"`
}

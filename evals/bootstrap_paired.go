package evals

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
)

// maxTriples bounds the memory of a comparison with very many labels. Beyond
// it there is no interval of the difference of macro-F1.
const maxTriples = 1 << 18

// A triple is the truth of a row and the answers of two models, a and b.
type triple struct{ gold, a, b int32 }

// triples counts the rows by their triple. Rows of one triple are alike to
// accuracy and F1, so that drawing pairs of answers again is drawing triples
// from a multinomial.
type triples struct {
	n     int
	cells map[triple]int // nil if there were too many
}

func newTriples() triples { return triples{cells: make(map[triple]int)} }

func (t *triples) add(gold, a, b int) {
	t.n++
	if t.cells == nil {
		return
	}
	if t.cells[triple{int32(gold), int32(a), int32(b)}]++; len(t.cells) > maxTriples {
		t.cells = nil
	}
}

func (t *triples) sorted() ([]triple, []int) {
	at := make([]triple, 0, len(t.cells))
	for k := range t.cells {
		at = append(at, k)
	}
	slices.SortFunc(at, func(x, y triple) int {
		return cmp.Or(cmp.Compare(x.gold, y.gold), cmp.Compare(x.a, y.a), cmp.Compare(x.b, y.b))
	})
	n := make([]int, len(at))
	for i, k := range at {
		n[i] = t.cells[k]
	}
	return at, n
}

// differences returns accuracy and macro-F1 of a minus those of b, with the
// percentile interval of the paired bootstrap; nil without rows, or if there
// were too many triples.
func (t *triples) differences(labels int) map[string]Metric {
	if t.n == 0 || t.cells == nil {
		return nil
	}
	at, n := t.sorted()
	by := [2][]margins{make([]margins, labels), make([]margins, labels)}
	accuracy, f1 := pairedFigures(by, at, n, t.n)
	times := resamples
	if len(at)*times > maxDraws {
		times = max(minResamples, maxDraws/len(at))
	}
	source := rand.NewPCG(bootSeed, uint64(t.n))
	drawn := make([]int, len(n))
	var drawnAccuracy, drawnF1 []float64
	for range times {
		multinomial(drawn, n, t.n, source)
		x, y := pairedFigures(by, at, drawn, t.n)
		drawnAccuracy, drawnF1 = append(drawnAccuracy, x), append(drawnF1, y)
	}
	metric := func(value float64, drawn []float64) Metric {
		slices.Sort(drawn)
		return Metric{Value: value, Low: percentile(drawn, .025), High: percentile(drawn, .975),
			N: t.n, Method: fmt.Sprintf("paired bootstrap percentile, %d resamples", times)}
	}
	return map[string]Metric{Accuracy: metric(accuracy, drawnAccuracy), MacroF1: metric(f1, drawnF1)}
}

// pairedFigures returns the differences of accuracy and macro-F1 of so many
// rows of each triple, rows in all. It writes into by.
func pairedFigures(by [2][]margins, at []triple, n []int, rows int) (accuracy, f1 float64) {
	clear(by[0])
	clear(by[1])
	right := 0
	for i, c := range at {
		for model, answer := range [2]int32{c.a, c.b} {
			by[model][c.gold].gold += n[i]
			by[model][answer].predicted += n[i]
			if answer == c.gold {
				by[model][c.gold].hits += n[i]
				right += n[i] * (1 - 2*model)
			}
		}
	}
	return float64(right) / float64(rows), macroF1(by[0]) - macroF1(by[1])
}

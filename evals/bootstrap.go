package evals

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// The bootstrap draws with a fixed seed: the same counts always give the same
// interval. A matrix with very many cells gets fewer resamples, and the
// metric's method says how many.
const (
	resamples    = 1000
	minResamples = 200
	maxDraws     = 500_000
	bootSeed     = 0x67616c6c6579
)

// bootstrapF1 returns macro-F1 with its percentile bootstrap interval. Rows
// that fall into the same cell of the confusion matrix are alike to F1, so a
// draw of n rows with replacement is a draw of the cells from a multinomial.
func bootstrapF1(c *counts, labels int) Metric {
	at, n := c.sorted()
	by := make([]margins, labels)
	tally(by, at, n)
	m := Metric{Value: macroF1(by), N: c.n}
	times := resamples
	if len(at)*times > maxDraws {
		times = max(minResamples, maxDraws/len(at))
	}
	m.Method = fmt.Sprintf("bootstrap percentile, %d resamples", times)
	if c.n == 0 {
		m.High = 1
		return m
	}
	source := rand.NewPCG(bootSeed, uint64(c.n))
	drawn, values := make([]int, len(n)), make([]float64, times)
	for i := range values {
		multinomial(drawn, n, c.n, source)
		tally(by, at, drawn)
		values[i] = macroF1(by)
	}
	slices.Sort(values)
	m.Low, m.High = percentile(values, .025), percentile(values, .975)
	return m
}

// multinomial draws total items over cells with weights n, whose sum is
// total: each cell in turn is binomial in what is left.
func multinomial(drawn, n []int, total int, source rand.Source) {
	left, weight := total, total
	for i, k := range n {
		switch {
		case left == 0:
			drawn[i] = 0
		case k == weight:
			drawn[i] = left
		default:
			b := distuv.Binomial{N: float64(left), P: float64(k) / float64(weight), Src: source}
			drawn[i] = int(b.Rand())
		}
		left -= drawn[i]
		weight -= k
	}
}

// percentile interpolates linearly between the sorted values.
func percentile(sorted []float64, q float64) float64 {
	x := q * float64(len(sorted)-1)
	i := int(x)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (x-float64(i))*(sorted[i+1]-sorted[i])
}

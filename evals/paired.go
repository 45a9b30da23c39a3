package evals

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/mathext"
)

// A Pairing counts how two models, a and b, do on the same rows. It is all
// that a comparison of their accuracies needs.
type Pairing struct {
	N     int `json:"n"`
	OnlyA int `json:"only_a"` // rows that a alone has right
	OnlyB int `json:"only_b"` // rows that b alone has right
}

// Add counts one row.
func (p *Pairing) Add(a, b bool) {
	p.N++
	switch {
	case a && !b:
		p.OnlyA++
	case b && !a:
		p.OnlyB++
	}
}

// Difference is the accuracy of a minus that of b. Its interval is Agresti and
// Min's for matched pairs (2005): Wald's after adding half a row to each cell
// of the table, which keeps its coverage on few rows and few differences.
func (p Pairing) Difference() Metric {
	const method = "paired agresti-min"
	if p.N == 0 {
		return Metric{Low: -1, High: 1, Method: method}
	}
	n, a, b := float64(p.N)+2, float64(p.OnlyA)+.5, float64(p.OnlyB)+.5
	centre := (a - b) / n
	half := z95 * math.Sqrt(a+b-(a-b)*(a-b)/n) / n
	return Metric{
		Value:  float64(p.OnlyA-p.OnlyB) / float64(p.N),
		Low:    math.Max(-1, centre-half),
		High:   math.Min(1, centre+half),
		Method: method,
		N:      p.N,
	}
}

// McNemar is the exact two-sided p-value of the hypothesis that a and b are
// right equally often (McNemar 1947, by the binomial distribution).
func (p Pairing) McNemar() float64 {
	n, k := p.OnlyA+p.OnlyB, min(p.OnlyA, p.OnlyB)
	if n == 0 || 2*k == n {
		return 1
	}
	// P(X <= k) of a binomial with n trials of 1/2.
	tail := mathext.RegIncBeta(float64(n-k), float64(k)+1, .5)
	return math.Min(1, 2*tail)
}

// holm adjusts the p-values of several tests for their number (Holm 1979): a
// test holds at 5 % among all of them if its adjusted value is below .05.
func holm(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	out, most := make([]float64, len(p)), 0.0
	for rank, i := range order {
		most = max(most, min(1, p[i]*float64(len(p)-rank)))
		out[i] = most
	}
	return out
}

// Detectable is the smallest difference of the accuracies that a comparison of
// this many rows shows four times in five (two-sided test at 5 %), given how
// often the models were found to differ: the difference d that solves
// n d² = (z₀.₉₇₅ √ψ + z₀.₈ √(ψ-d²))², where ψ is the share of rows that one
// model alone has right (Connor, Biometrics 43, 1987; Miettinen 1968). As in
// the interval, half a row is added to each cell, so that models that never
// differed are not taken for equal.
func (p Pairing) Detectable() float64 {
	if p.N == 0 {
		return 1
	}
	const z80 = 0.8416212335729143
	n := float64(p.N) + 2
	found := (float64(p.OnlyA+p.OnlyB) + 1) / n
	needs := func(d float64) float64 {
		share := math.Max(found, d) // models cannot differ by more than ψ
		root := z95*math.Sqrt(share) + z80*math.Sqrt(share-d*d)
		return root * root / (d * d)
	}
	low, high := 0.0, 1.0 // what is needed falls with d
	for range 60 {
		if d := (low + high) / 2; needs(d) > n {
			low = d
		} else {
			high = d
		}
	}
	return high
}

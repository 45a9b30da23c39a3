package evals

import (
	"math"

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

// PairedDifference is the accuracy of a minus that of b, given which rows
// each has right, in the same order. Rows beyond the shorter list do not
// count.
func PairedDifference(a, b []bool) Metric { return Pair(a, b).Difference() }

// Pair counts two lists of which rows are right, in the same order. Rows
// beyond the shorter list do not count.
func Pair(a, b []bool) Pairing {
	var p Pairing
	for i := range min(len(a), len(b)) {
		p.Add(a[i], b[i])
	}
	return p
}

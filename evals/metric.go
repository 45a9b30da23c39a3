package evals

import "math"

// The metrics of classification, as reports name them.
const (
	Accuracy = "accuracy"
	MacroF1  = "macro_f1"
	Loss     = "loss"
	ECE      = "ece" // expected calibration error
)

// Agreement is the share of rows that two models answer alike.
const Agreement = "agreement"

// A Metric is an estimate with its 95 % interval.
type Metric struct {
	Value  float64 `json:"value"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Method string  `json:"method"` // of the interval
	N      int     `json:"n"`      // rows
}

// z95 is the 97.5 % quantile of the normal distribution.
const z95 = 1.959963984540054

// Wilson returns the proportion correct/n with Wilson's score interval
// (Wilson 1927). Without rows it knows nothing: the interval is [0, 1].
func Wilson(correct, n int) Metric {
	if n <= 0 {
		return Metric{Low: 0, High: 1, Method: "wilson"}
	}
	p, m := float64(correct)/float64(n), float64(n)
	denominator := 1 + z95*z95/m
	centre := (p + z95*z95/(2*m)) / denominator
	half := z95 / denominator * math.Sqrt(p*(1-p)/m+z95*z95/(4*m*m))
	// At p = 0 and 1 the formula's end is p itself, up to rounding.
	return Metric{
		Value:  p,
		Low:    math.Max(0, math.Min(p, centre-half)),
		High:   math.Min(1, math.Max(p, centre+half)),
		Method: "wilson",
		N:      n,
	}
}

// moments are the running mean and sum of squared deviations of a sequence
// (Welford 1962), which lose no digits on long sequences.
type moments struct {
	n        int
	mean, m2 float64
}

func (s *moments) add(x float64) {
	s.n++
	d := x - s.mean
	s.mean += d / float64(s.n)
	s.m2 += d * (x - s.mean)
}

// metric returns the mean of losses, which are not negative, with the interval
// of the normal approximation.
func (s *moments) metric() Metric {
	half := 0.0
	if s.n > 1 {
		half = z95 * math.Sqrt(s.m2/float64(s.n-1)/float64(s.n))
	}
	return Metric{Value: s.mean, Low: math.Max(0, s.mean-half), High: s.mean + half, Method: "normal", N: s.n}
}

package experiment

import "math"

// A Tally is the outcomes of an arm: their number, and the sum of their values,
// each from 0 to 1. It is all that the tests below need, so that a correction
// is as if the outcome had been right from the start.
type Tally struct {
	N   float64
	Sum float64
}

// Mean returns the rate, NaN without outcomes.
func (t Tally) Mean() float64 { return t.Sum / t.N }

// Plus adds two tallies.
func (t Tally) Plus(u Tally) Tally { return Tally{t.N + u.N, t.Sum + u.Sum} }

// An Interval has a low and a high end.
type Interval struct{ Low, High float64 }

// priorCount is the two parameters of the beta prior of a rate: Jeffreys'.
const priorCount = 0.5

// Rate returns an interval for the mean of an arm's outcomes that is valid at
// all times at once: the chance that it ever misses the mean is at most alpha,
// however often and whenever one looks.
//
// It is the confidence sequence of the beta-binomial mixture (Robbins 1970;
// Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric,
// nonasymptotic confidence sequences", Annals of Statistics 2021): the rates
// against which the mixture's likelihood ratio, a nonnegative supermartingale,
// has not come to 1/alpha. It is exact for outcomes that are 0 or 1, and holds
// for those in between, whose likelihood ratio is convex in the outcome.
func (t Tally) Rate(alpha float64) Interval {
	if t.N == 0 {
		return Interval{0, 1}
	}
	bound := math.Log(1 / alpha)
	evidence := func(p float64) float64 { return t.against(p) - bound }
	mean := t.Mean()
	return Interval{root(evidence, mean, 0), root(evidence, mean, 1)}
}

// against is the logarithm of the mixture's likelihood ratio against a rate.
func (t Tally) against(p float64) float64 {
	s, f := t.Sum, t.N-t.Sum
	return logBeta(priorCount+s, priorCount+f) - logBeta(priorCount, priorCount) - xlogy(s, p) - xlogy(f, 1-p)
}

// root returns where an increasing function on the way from inside to outside
// passes 0; outside if it does not.
func root(f func(float64) float64, inside, outside float64) float64 {
	const steps = 48
	if f(outside) < 0 {
		return outside
	}
	for range steps {
		if mid := (inside + outside) / 2; f(mid) < 0 {
			inside = mid
		} else {
			outside = mid
		}
	}
	return outside
}

func logBeta(a, b float64) float64 {
	x, _ := math.Lgamma(a)
	y, _ := math.Lgamma(b)
	z, _ := math.Lgamma(a + b)
	return x + y - z
}

// xlogy is x·log(y), 0 where x is, and what it tends to.
func xlogy(x, y float64) float64 {
	if x <= 0 {
		return 0
	}
	return x * math.Log(y)
}

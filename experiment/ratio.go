package experiment

import "math"

// MismatchAlpha is how improbable a sample ratio must be to be called a
// mismatch.
const MismatchAlpha = 0.001

// concentrations are the priors of the test of sample ratios: how many
// outcomes the planned shares are worth. Few find gross mismatches early, many
// find small ones in the end; the mean of the four is evidence as each is.
var concentrations = []float64{10, 100, 1_000, 10_000}

// RatioEvidence returns the logarithm of the evidence that counts of the two
// arms were not drawn with the planned shares, valid at all times at once: the
// Bayes factor of a Dirichlet-multinomial model against the shares, a
// martingale if they hold (Lindon and Malek, "Anytime-valid inference for
// multinomial count data", NeurIPS 2022). The evidences of stages with
// different shares multiply.
func RatioEvidence(stages []Stage, counts [][2]int64) float64 {
	total := 0.0
	for i, n := range counts {
		if stages[i].Treatment == 0 {
			continue // a shadow has no shares
		}
		x := [2]float64{float64(n[Control]), float64(n[Treatment])}
		shares := [2]float64{stages[i].Share(Control), stages[i].Share(Treatment)}
		null := xlogy(x[0], shares[0]) + xlogy(x[1], shares[1])
		sum := math.Inf(-1)
		for _, k := range concentrations {
			a, b := k*shares[0], k*shares[1]
			sum = logAdd(sum, logBeta(a+x[0], b+x[1])-logBeta(a, b)-null)
		}
		total += sum - math.Log(float64(len(concentrations)))
	}
	return total
}

// logAdd is log(exp(a) + exp(b)).
func logAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	return a + math.Log1p(math.Exp(b-a))
}

//go:build bench

package experiment

import (
	"math"
	"slices"
	"strconv"
	"testing"
)

// TestBenchExperimentFalseAlarms holds that at most one in twenty of 2,000
// experiments without a difference is decided, looked at after each of 2,000
// outcomes.
func TestBenchExperimentFalseAlarms(t *testing.T) {
	const runs, n = 2000, 2000
	for _, s := range []simulated{
		{rates: [2]float64{0.5, 0.5}, share: 5000, n: n},
		{rates: [2]float64{0.05, 0.05}, share: 5000, n: n},
		{rates: [2]float64{0.05, 0.05}, share: 1000, n: n},
	} {
		alarms := falseAlarms(s, runs)
		t.Logf("A/A at %g, split %s, %d outcomes: %d of %d runs raised a false alarm (%.2f %%)",
			s.rates[0], FormatSplit(s.share), s.n, alarms, runs, 100*float64(alarms)/runs)
		if float64(alarms) > Alpha*runs {
			t.Errorf("%d of %d are more than %g", alarms, runs, Alpha)
		}
	}
}

// TestBenchExperimentPower prints the share of experiments that found a
// difference, and when, beside a test at a fixed horizon: the z-test that looks
// once, at the end.
func TestBenchExperimentPower(t *testing.T) {
	const runs, n = 200, 5000
	for _, difference := range []float64{0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1} {
		s := simulated{rates: [2]float64{0.2, 0.2 + difference}, share: 5000, n: n}
		var found []int
		misled := 0
		for i := range runs {
			s.seed = uint64(i)
			if at, wrong := s.ends(); wrong {
				misled++
			} else if at > 0 {
				found = append(found, at)
			}
		}
		if misled > runs*Alpha {
			t.Errorf("+%g: the worse arm won %d of %d", difference, misled, runs)
		}
		slices.Sort(found)
		median := "-"
		if len(found) > runs/2 {
			median = strconv.Itoa(found[runs/2])
		}
		t.Logf("+%.2f: always valid %.2f (half of them after %s outcomes), fixed horizon %.2f (after %d)",
			difference, float64(len(found))/runs, median, fixedPower(s), n)
	}
}

// fixedPower is the power of the two-sided z-test of two rates after all of a
// simulation's outcomes.
func fixedPower(s simulated) float64 {
	half := float64(s.n) / 2
	p, q := s.rates[0], s.rates[1]
	deviation := math.Sqrt((p*(1-p) + q*(1-q)) / half)
	const z = 1.959964
	normal := func(x float64) float64 { return 0.5 * math.Erfc(-x/math.Sqrt2) }
	return normal((q-p)/deviation-z) + normal(-(q-p)/deviation-z)
}

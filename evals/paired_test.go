package evals

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func quantiles(values []float64) (low, high float64) {
	slices.Sort(values)
	return percentile(values, .025), percentile(values, .975)
}

func TestPairedDifference(t *testing.T) {
	// Agresti, Categorical Data Analysis, section 11.1: approval of a prime
	// minister in two surveys of the same 1,600 people; Wald's interval of
	// the change is (-.059, -.021), from which half a row in each cell moves
	// the ends by less than .0002.
	p := Pairing{N: 1600, OnlyA: 86, OnlyB: 150}
	d := p.Difference()
	near(t, "difference", d.Value, -.04, 1e-12)
	near(t, "low", d.Low, -.0588, 3e-4)
	near(t, "high", d.High, -.0212, 3e-4)
	near(t, "p", p.McNemar()*1e5, 3.716, .01) // scipy.stats.binomtest(86, 236)

	// Fagerland, Lydersen, Laake (BMC Medical Research Methodology 13:91, 2013),
	// table 1: 8 of 21 children changed, 7 of them one way.
	near(t, "p of few", Pairing{N: 21, OnlyA: 1, OnlyB: 7}.McNemar(), .0703125, 1e-12)

	var few Pairing
	for _, right := range [][2]bool{{true, true}, {true, false}, {true, false}, {false, false}} {
		few.Add(right[0], right[1])
	}
	if few != (Pairing{N: 4, OnlyA: 2}) {
		t.Errorf("pairing = %+v", few)
	}
	near(t, "p", few.McNemar(), .5, 1e-12)
	if d := (Pairing{}).Difference(); d.N != 0 || d.Low != -1 || d.High != 1 {
		t.Errorf("no rows: %+v", d)
	}
	if p := (Pairing{N: 10}).McNemar(); p != 1 {
		t.Errorf("no differences: p = %v", p)
	}
}

func TestHolm(t *testing.T) {
	// Four tests by hand: .005 four times, .01 three times, .03 twice, and .04,
	// which may not come out below the one before it.
	got := holm([]float64{.01, .04, .03, .005})
	for i, want := range []float64{.03, .06, .06, .02} {
		near(t, "adjusted", got[i], want, 1e-12)
	}
	if got := holm([]float64{.9, .8}); got[0] != 1 || got[1] != 1 {
		t.Errorf("%v", got)
	}
	if got := holm(nil); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// The interval covers the truth about 95 times in 100.
func TestPairedDifferenceCovers(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	covered := 0
	const trials = 4000
	for range trials {
		var p Pairing
		for range 300 {
			x := random.Float64()
			p.Add(x < .8 || x >= .95, x < .92) // a alone .05, b alone .12
		}
		if d := p.Difference(); d.Low <= .05-.12 && .05-.12 <= d.High {
			covered++
		}
	}
	if share := float64(covered) / trials; share < .935 || share > .97 {
		t.Errorf("covers %.3f of the time", share)
	}
}

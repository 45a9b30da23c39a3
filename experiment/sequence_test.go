package experiment

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// The values are those of SciPy (betaln, brentq, logsumexp, and a search of
// 4,001 places), computed apart from this package.

func TestRateIsThatOfSciPy(t *testing.T) {
	for _, c := range []struct {
		sum, n    float64
		low, high float64
	}{
		{0, 10, 0, 0.3769873509906774},
		{3, 10, 0.03251513978805888, 0.7475871099149966},
		{50, 100, 0.33825755264579155, 0.6617424473542084},
		{620, 1000, 0.5630324133132356, 0.6748399886585814},
		{12.5, 40, 0.12141617125915162, 0.5622694423959244},
	} {
		got := Tally{c.n, c.sum}.Rate(0.05)
		if math.Abs(got.Low-c.low) > 1e-9 || math.Abs(got.High-c.high) > 1e-9 {
			t.Errorf("%g of %g: %v, not [%v, %v]", c.sum, c.n, got, c.low, c.high)
		}
	}
	if got := (Tally{}).Rate(0.05); got != (Interval{0, 1}) {
		t.Errorf("without outcomes: %v", got)
	}
}

func TestContrastIsThatOfSciPy(t *testing.T) {
	for _, c := range []struct {
		arms       [2]Tally
		difference float64
		share      float64
		want       float64
	}{
		{[2]Tally{{1000, 500}, {1000, 560}}, 0, 0.5, 1.3624443752122546},
		{[2]Tally{{900, 90}, {100, 20}}, 0, 0.1, 0.9726365150249463},
		{[2]Tally{{900, 90}, {100, 20}}, 0.05, 0.1, -0.4037164043695003},
		{[2]Tally{{200, 3}, {200, 1}}, 0, 0.5, -0.45567738085919585},
		{[2]Tally{{5000, 400}, {5000, 500}}, 0.01, 0.5, -0.41036268476281057},
		{[2]Tally{{50, 40}, {50, 30}}, 0, 0.5, 0.3750520560979749},
	} {
		if got := NewContrast(c.share).Against(Strata{c.arms}, c.difference); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("%v at %g: %v, not %v", c.arms, c.difference, got, c.want)
		}
	}
}

func TestRatioIsThatOfSciPy(t *testing.T) {
	for _, c := range []struct {
		counts [2]int64
		share  int
		want   float64
	}{
		{[2]int64{821588, 815482}, 5000, 7.770134838008481},
		{[2]int64{5000, 5200}, 5000, 0.13493048946947872},
		{[2]int64{900, 50}, 1000, 11.004356825457062},
		{[2]int64{133, 67}, 5000, 7.7689548565897315},
	} {
		got := RatioEvidence([]Stage{{Treatment: c.share}}, [][2]int64{c.counts})
		if math.Abs(got-c.want) > 1e-7 {
			t.Errorf("%v: %v, not %v", c.counts, got, c.want)
		}
	}
}

func TestIntervalsHoldTheEstimateAndShrink(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var arms, more [2]Tally
		for i := range arms {
			n := float64(rapid.IntRange(1, 500).Draw(t, "n"))
			arms[i] = Tally{n, math.Round(n * rapid.Float64Range(0, 1).Draw(t, "rate"))}
			more[i] = Tally{16 * n, 16 * arms[i].Sum}
			r := arms[i].Rate(Alpha)
			if mean := arms[i].Mean(); !(0 <= r.Low && r.Low <= mean && mean <= r.High && r.High <= 1) {
				t.Fatalf("%v has %v", arms[i], r)
			}
			if m := more[i].Rate(Alpha); m.High-m.Low > r.High-r.Low {
				t.Fatalf("%v has %v, sixteen times as many %v", arms[i], r, m)
			}
		}
		c := NewContrast(0.5)
		d, fits := c.Difference(Strata{arms}, Alpha)
		d2, fits2 := c.Difference(Strata{more}, Alpha)
		if !fits || !fits2 {
			t.Fatalf("one stratum has no difference that fits")
		}
		between := arms[1].Mean() - arms[0].Mean()
		if !(-1 <= d.Low && d.Low <= between && between <= d.High && d.High <= 1) {
			t.Fatalf("%v has %v", arms, d)
		}
		if d2.High-d2.Low > d.High-d.Low+1e-9 {
			t.Fatalf("%v has %v, sixteen times as many %v", arms, d, d2)
		}
	})
}

// TestTheArmsChangePlaces: which arm is called control changes the sign only.
func TestTheArmsChangePlaces(t *testing.T) {
	a, b := Tally{300, 120}, Tally{310, 170}
	c := NewContrast(0.5)
	x, _ := c.Difference(Strata{{a, b}}, Alpha)
	y, _ := c.Difference(Strata{{b, a}}, Alpha)
	if math.Abs(x.Low+y.High) > 1e-6 || math.Abs(x.High+y.Low) > 1e-6 {
		t.Errorf("%v and %v", x, y)
	}
}

// TestARateThatChangesWithTheShares: outcomes are better in the second stage,
// where the treatment has most of the traffic. Together the arms differ, in each
// stage they do not.
func TestARateThatChangesWithTheShares(t *testing.T) {
	strata := Strata{{{900, 180}, {100, 20}}, {{100, 60}, {900, 540}}}
	pooled := Strata{{{1000, 240}, {1000, 560}}}
	c := NewContrast(0.1)
	if d, _ := c.Difference(pooled, Alpha); d.Low <= 0 {
		t.Errorf("pooled: %v", d)
	}
	if d, fits := c.Difference(strata, Alpha); !fits || d.Low > 0 || d.High < 0 {
		t.Errorf("by stages: %v", d)
	}
	// What is there in each stage is found.
	if d, fits := c.Difference(Strata{{{900, 180}, {100, 40}}, {{100, 40}, {900, 540}}}, Alpha); !fits || d.Low <= 0 {
		t.Errorf("a difference in each: %v", d)
	}
	// One that turns is none.
	if d, fits := c.Difference(Strata{{{500, 100}, {500, 400}}, {{500, 400}, {500, 100}}}, Alpha); fits || d != (Interval{-1, 1}) {
		t.Errorf("one that turns: %v", d)
	}
}

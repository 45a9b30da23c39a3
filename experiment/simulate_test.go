package experiment

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// A simulated experiment draws the arm and the outcome of each of n readers,
// and looks after every one.
type simulated struct {
	rates [2]float64
	share int // of the treatment, in Parts
	n     int
	seed  uint64
}

// ends returns after how many outcomes the verdict is no longer undecided, 0 if
// it stays so; wrong if it is not for the better arm, or there is none.
func (s simulated) ends() (at int, wrong bool) {
	random := rand.New(rand.NewPCG(s.seed, 7))
	c := NewContrast(float64(s.share) / Parts)
	bound := enough(Alpha)
	stage := Stage{Treatment: s.share}
	var arms [2]Tally
	for i := 1; i <= s.n; i++ {
		arm := stage.Arm(random.Uint64())
		arms[arm].N++
		if random.Float64() < s.rates[arm] {
			arms[arm].Sum++
		}
		// The least evidence is at most that against the pooled rate, which
		// costs less to look at.
		pooled := odds((arms[0].Sum + arms[1].Sum) / float64(i))
		if arms[0].N == 0 || arms[1].N == 0 || c.at(arms, [2]float64{pooled, pooled}) < bound {
			continue
		}
		if c.Against(Strata{arms}, 0) >= bound {
			treatment := arms[1].Mean() > arms[0].Mean()
			return i, s.rates[0] == s.rates[1] || treatment != (s.rates[1] > s.rates[0])
		}
	}
	return 0, false
}

// falseAlarms runs experiments whose arms do not differ.
func falseAlarms(s simulated, runs int) int {
	alarms := 0
	for i := range runs {
		s.seed = uint64(i)
		if at, _ := s.ends(); at > 0 {
			alarms++
		}
	}
	return alarms
}

func TestPeekingRaisesNoFalseAlarms(t *testing.T) {
	runs, n := 200, 500
	if testing.Short() {
		runs = 40
	}
	for _, s := range []simulated{
		{rates: [2]float64{0.5, 0.5}, share: 5000, n: n},
		{rates: [2]float64{0.03, 0.03}, share: 1000, n: n},
	} {
		if alarms := falseAlarms(s, runs); float64(alarms) > Alpha*float64(runs) {
			t.Errorf("%+v: %d of %d raised a false alarm", s, alarms, runs)
		}
	}
}

func TestADifferenceIsFound(t *testing.T) {
	found := 0
	const runs = 20
	for i := range runs {
		at, wrong := simulated{rates: [2]float64{0.5, 0.7}, share: 5000, n: 600, seed: uint64(i)}.ends()
		if wrong {
			t.Errorf("seed %d: the worse arm won", i)
		}
		if at > 0 {
			found++
		}
	}
	if found < runs*9/10 {
		t.Errorf("%d of %d found a difference of 0.2", found, runs)
	}
}

// TestRatesHoldAtAllTimes: an arm's interval misses its rate at any time in at
// most one of twenty runs.
func TestRatesHoldAtAllTimes(t *testing.T) {
	const runs, n = 100, 500
	for _, rate := range []float64{0.02, 0.5} {
		missed := 0
		for seed := range uint64(runs) {
			random := rand.New(rand.NewPCG(seed, 11))
			var arm Tally
			for range n {
				arm.N++
				if random.Float64() < rate {
					arm.Sum++
				}
				if arm.against(rate) >= math.Log(1/Alpha) {
					missed++
					break
				}
			}
		}
		if missed > runs/20 {
			t.Errorf("rate %g: %d of %d missed it", rate, missed, runs)
		}
	}
}

// TestRatioRaisesNoFalseAlarms: the planned shares are not called a mismatch,
// also when they change on the way; a loss of outcomes is.
func TestRatioRaisesNoFalseAlarms(t *testing.T) {
	stages := []Stage{{Treatment: 1000}, {Treatment: 5000}}
	alarmed := func(seed uint64, lost float64) bool {
		random := rand.New(rand.NewPCG(seed, 13))
		counts := make([][2]int64, len(stages))
		for i, stage := range stages {
			for range 1500 {
				arm := stage.Arm(random.Uint64())
				if arm == Treatment && random.Float64() < lost {
					continue
				}
				counts[i][arm]++
				if RatioEvidence(stages, counts) >= math.Log(1/MismatchAlpha) {
					return true
				}
			}
		}
		return false
	}
	const runs = 20
	for seed := range uint64(runs) {
		if alarmed(seed, 0) {
			t.Errorf("seed %d: a false alarm", seed)
		}
		if !alarmed(seed, 0.3) {
			t.Errorf("seed %d: a loss of 30 %% of the treatment's outcomes is not found", seed)
		}
	}
}

func (s simulated) String() string {
	return fmt.Sprintf("%g/%g %s %d", s.rates[0], s.rates[1], FormatSplit(s.share), s.n)
}

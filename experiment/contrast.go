package experiment

import "math"

// A Contrast tests whether two arms have the same rate, and bounds their
// difference, at all times at once.
//
// It is a mixture sequential probability ratio test (Robbins 1970; Johari,
// Koomen, Pekelis and Walsh, "Always valid inference: continuous monitoring of
// A/B tests", Operations Research 2022) on the outcomes' own likelihood instead
// of a normal one. For each pair of rates that differ by d, the likelihood
// ratio against them of a mixture over a grid of log odds ratios is a
// nonnegative supermartingale, which comes to 1/alpha with a chance of at most
// alpha. The pair is not known: d is refused only if all pairs are that are not
// refused by themselves, at a small part of alpha (Berger and Boos, "P values
// maximized over a confidence set for the nuisance parameter", JASA 1994; here
// the set is a confidence sequence). No variance is estimated, no number of
// outcomes is too small, and the order in which those of the two arms arrive
// does not matter.
//
// Strata are tested each by itself, and their evidences multiply: where the
// shares changed on the way, a rate that changed with them, too, is no
// difference of the arms.
type Contrast struct {
	shifts []shift
}

// A shift is an alternative: by how much the log odds of each arm are moved.
type shift struct {
	by  [2]float64
	exp [2]float64 // of by
}

// The grid of log odds ratios: from one that takes a million outcomes to see to
// one that shows in twenty.
const (
	smallestShift = 0.02
	shiftGrowth   = 1.4
	shiftCount    = 16 // each way
)

// NewContrast makes the test for arms of which the treatment was planned to
// have a share. Another share than the actual one costs power, not validity.
func NewContrast(treatment float64) Contrast {
	var c Contrast
	ratio := smallestShift
	for range shiftCount {
		for _, r := range []float64{ratio, -ratio} {
			by := [2]float64{-treatment * r, (1 - treatment) * r}
			c.shifts = append(c.shifts, shift{by, [2]float64{math.Exp(by[0]), math.Exp(by[1])}})
		}
		ratio *= shiftGrowth
	}
	return c
}

// at is the logarithm of the mixture's likelihood ratio against one pair of
// rates, given as odds.
func (c Contrast) at(arms [2]Tally, odds [2]float64) float64 {
	top, sum := math.Inf(-1), 0.0
	var base [2]float64
	for i, o := range odds {
		base[i] = math.Log1p(o)
	}
	for _, s := range c.shifts {
		l := 0.0
		for i, arm := range arms {
			l += arm.Sum*s.by[i] - arm.N*(math.Log1p(odds[i]*s.exp[i])-base[i])
		}
		if l > top {
			sum = sum*math.Exp(top-l) + 1
			top = l
		} else {
			sum += math.Exp(l - top)
		}
	}
	return top + math.Log(sum/float64(len(c.shifts)))
}

// Strata are the outcomes of both arms by the stages of an experiment.
type Strata [][2]Tally

// nuisanceAlpha is the part of alpha for the sets of pairs of all strata.
const nuisanceAlpha = 0.002

// Against returns the logarithm of the evidence against a difference of the
// rates, treatment less control, that is the same in all strata.
func (c Contrast) Against(strata Strata, difference float64) float64 {
	sum := 0.0
	for _, arms := range strata {
		sum += c.against(arms, difference, nuisanceAlpha/float64(len(strata)))
	}
	return sum
}

// against is the evidence of one stratum: the least among the pairs of rates
// with this difference that the outcomes leave possible.
func (c Contrast) against(arms [2]Tally, difference, alpha float64) float64 {
	if arms[Control].N == 0 || arms[Treatment].N == 0 {
		return 0
	}
	low, high := max(0, -difference), min(1, 1-difference)
	// The sum is convex in control's rate.
	pair := func(p float64) float64 { return arms[Control].against(p) + arms[Treatment].against(p+difference) }
	likely, value := least(pair, low, high)
	bound := math.Log(1 / alpha)
	if value >= bound {
		return math.Inf(1)
	}
	excess := func(p float64) float64 { return pair(p) - bound }
	low, high = root(excess, likely, low), root(excess, likely, high)
	// Within the set the evidence changes little and smoothly: the least of a
	// few places, then what is least beside it.
	ratio := func(p float64) float64 { return c.at(arms, [2]float64{odds(p), odds(p + difference)}) }
	const places = 16
	width := (high - low) / places
	best, at := math.Inf(1), low
	for i := range places + 1 {
		p := low + width*float64(i)
		if v := ratio(p); v < best {
			best, at = v, p
		}
	}
	_, beside := least(ratio, max(low, at-width), min(high, at+width))
	return min(best, beside)
}

// least returns where a function is least between two places, by golden
// sections, and its value there.
func least(f func(float64) float64, a, b float64) (at, value float64) {
	const golden = 0.6180339887498949
	x, y := b-golden*(b-a), a+golden*(b-a)
	fx, fy := f(x), f(y)
	for range 40 {
		if fx < fy {
			b, y, fy = y, x, fx
			x = b - golden*(b-a)
			fx = f(x)
		} else {
			a, x, fx = x, y, fy
			y = a + golden*(b-a)
			fy = f(y)
		}
	}
	if fx < fy {
		return x, fx
	}
	return y, fy
}

// Difference returns an interval for the treatment's rate less control's that
// is valid at all times at once, as Rate's is. It is all that is possible if no
// one difference fits all strata: then there is none to be named.
func (c Contrast) Difference(strata Strata, alpha float64) (interval Interval, fits bool) {
	weight, between := 0.0, 0.0
	for _, arms := range strata {
		if arms[Control].N == 0 || arms[Treatment].N == 0 {
			continue
		}
		w := arms[Control].N * arms[Treatment].N / (arms[Control].N + arms[Treatment].N)
		weight += w
		between += w * (arms[Treatment].Mean() - arms[Control].Mean())
	}
	if weight == 0 {
		return Interval{-1, 1}, true
	}
	bound := enough(alpha)
	evidence := func(d float64) float64 { return c.Against(strata, d) - bound }
	between /= weight
	if evidence(between) >= 0 {
		return Interval{-1, 1}, false
	}
	return Interval{root(evidence, between, -1), root(evidence, between, 1)}, true
}

// enough is the logarithm of the evidence that refuses a difference.
func enough(alpha float64) float64 { return -math.Log(alpha - nuisanceAlpha) }

// odds of a rate, kept off the ends.
func odds(p float64) float64 {
	const edge = 1e-12
	p = min(max(p, edge), 1-edge)
	return p / (1 - p)
}

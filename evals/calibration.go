package evals

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
)

// The bins of the calibration error: as many as Guo et al. (2017) take, fewer
// where rows are few.
const (
	calibrationBins = 15
	leastInBin      = 20
)

// confidenceCells is how finely confidences are told apart. Rows of one cell
// stay in one bin, as equal confidences do, so that memory does not depend on
// the number of rows.
const confidenceCells = 1 << 14

// A calibration counts how sure a model was and how often it was right.
type calibration map[uint16]residuals

// residuals are those of some rows: 1 or 0 for a right or wrong answer, less
// the confidence in it.
type residuals struct {
	n            int
	sum, squares float64
	confidence   float64 // their sum
}

// and returns both together.
func (r residuals) and(o residuals) residuals {
	return residuals{r.n + o.n, r.sum + o.sum, r.squares + o.squares, r.confidence + o.confidence}
}

func (c calibration) add(right bool, confidence float64) {
	confidence = min(1, max(0, confidence))
	r := -confidence
	if right {
		r++
	}
	at := uint16(confidence * confidenceCells)
	c[at] = c[at].and(residuals{1, r, r * r, confidence})
}

// bins returns the residuals in bins of near-equal mass, by rising
// confidence.
func (c calibration) bins(number int) []residuals {
	n := 0
	for _, x := range c {
		n += x.n
	}
	out := make([]residuals, number)
	before := 0
	for _, at := range slices.Sorted(maps.Keys(c)) {
		x := c[at]
		// The bin of the cell's middle row.
		b := &out[int((float64(before)+float64(x.n)/2)*float64(number)/float64(n))]
		*b = b.and(x)
		before += x.n
	}
	return slices.DeleteFunc(out, func(b residuals) bool { return b.n == 0 })
}

// metric returns the expected calibration error (Naeini et al. 2015) over
// bins of equal mass: the mean distance of confidence and accuracy. Its
// interval is the percentile bootstrap in which the mean of each bin is drawn
// from its normal limit. Both lie too high on few rows: distances do not
// cancel, and a perfectly calibrated model, too, shows some.
func (c calibration) metric(n int) Metric {
	number := binsFor(n)
	bins := c.bins(number)
	m := Metric{Value: distance(bins, n, nil), High: 1, N: n, Method: fmt.Sprintf("bootstrap by bin, %d bins of equal mass, %d resamples", number, resamples)}
	if n < 2 {
		return m
	}
	random := rand.New(rand.NewPCG(bootSeed, uint64(n)))
	values := make([]float64, resamples)
	for i := range values {
		values[i] = distance(bins, n, random)
	}
	slices.Sort(values)
	m.Low, m.High = min(m.Value, percentile(values, .025)), min(1, max(m.Value, percentile(values, .975)))
	return m
}

// binsFor is how many bins the calibration error of so many rows has.
func binsFor(n int) int { return min(calibrationBins, max(1, n/leastInBin)) }

// A Bin is one of the bins of the calibration error, for plots: some rows of
// near confidences.
type Bin struct {
	N          int     `json:"n"`
	Confidence float64 `json:"confidence"` // their mean
	Accuracy   Metric  `json:"accuracy"`
}

// reliability returns the bins by rising confidence.
func (c calibration) reliability(n int) []Bin {
	bins := c.bins(binsFor(n))
	out := make([]Bin, len(bins))
	for i, b := range bins {
		right := int(math.Round(b.sum + b.confidence))
		out[i] = Bin{N: b.n, Confidence: b.confidence / float64(b.n), Accuracy: Wilson(right, b.n)}
	}
	return out
}

// distance is the calibration error of bins; with a random source, of a draw
// of their means.
func distance(bins []residuals, n int, random *rand.Rand) float64 {
	if n == 0 {
		return 0
	}
	total := 0.0
	for _, b := range bins {
		sum := b.sum
		if random != nil && b.n > 1 {
			// The standard deviation of a sum of n residuals.
			deviations := max(0, b.squares-b.sum*b.sum/float64(b.n))
			sum += random.NormFloat64() * math.Sqrt(deviations*float64(b.n)/float64(b.n-1))
		}
		total += math.Abs(sum)
	}
	return total / float64(n)
}

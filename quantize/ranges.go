package quantize

import (
	"math"
	"slices"

	"galley"
)

// A Search is a way to choose the range of an activation from what
// calibration saw of it.
type Search string

// The searches.
const (
	MinMax     Search = "minmax"     // all values
	Percentile Search = "percentile" // all but a share of the values
	Entropy    Search = "entropy"    // the least divergence from the distribution (Migacz, 2017)
	MSE        Search = "mse"        // the least squared error
)

// Searches lists them all.
var Searches = []Search{MinMax, Percentile, Entropy, MSE}

// binned tells searches that need more than the range.
func (s Search) binned() bool { return s != MinMax }

// candidates is how many ends of the range are tried on either side.
const candidates = 64

// Choose returns the range of an activation for a grid. Percentile is the
// share in percent that has to lie within, half of the rest beyond either
// end. It is within the range of the values and contains 0.
func (s Search) Choose(h *Histogram, percentile float64, g Grid, symmetric bool) (Range, error) {
	if !slices.Contains(Searches, s) {
		return Range{}, galley.Errorf(galley.InvalidArgument, "ranges", "%q is no way to find ranges", galley.Clip(string(s), 40)).
			WithRemedy("use minmax, percentile, entropy or mse")
	}
	if s == MinMax || h.Range.Low == h.Range.High {
		return h.Range, nil
	}
	d := h.density(symmetric)
	switch s {
	case Percentile:
		return d.percentile(percentile), nil
	case Entropy:
		return d.search(func(first, end int) float64 { return d.divergence(first, end, levels(g)) }), nil
	default:
		return d.search(func(first, end int) float64 { return d.squares(first, end, levels(g)) }), nil
	}
}

func levels(g Grid) int { return int(g.High) - int(g.Low) + 1 }

// A density is a histogram cut to where its values lie; of a symmetric one,
// that of magnitudes.
type density struct {
	counts    []float64
	low       float64 // where the first bin begins
	width     float64
	zero      int // the bin that begins at 0
	symmetric bool
	all       Range
	before    []float64 // counts before each bin, and all at the end
	occupied  []float64 // the same of bins with values
	logs      float64   // sum of c log c over the counts c
}

func (h *Histogram) density(symmetric bool) *density {
	d := &density{width: h.width(), symmetric: symmetric, all: h.Range}
	if symmetric {
		d.counts = make([]float64, bins/2)
		for i := range bins / 2 {
			d.counts[i] = float64(h.counts[bins/2+i] + h.counts[bins/2-1-i])
		}
		for len(d.counts) > 1 && d.counts[len(d.counts)-1] == 0 {
			d.counts = d.counts[:len(d.counts)-1]
		}
	} else {
		first, end := h.occupied()
		first, end = min(first, bins/2), max(end, bins/2) // 0 is within
		for _, n := range h.counts[first:end] {
			d.counts = append(d.counts, float64(n))
		}
		d.low, d.zero = h.edge(first), bins/2-first
	}
	d.before, d.occupied = make([]float64, len(d.counts)+1), make([]float64, len(d.counts)+1)
	for i, n := range d.counts {
		d.before[i+1], d.occupied[i+1] = d.before[i]+n, d.occupied[i]
		if n > 0 {
			d.occupied[i+1]++
			d.logs += n * math.Log(n)
		}
	}
	return d
}

// mass is how many values lie in bins first to end, the latter excluded.
func (d *density) mass(first, end int) float64 { return d.before[end] - d.before[first] }

// of returns the range that bins first to end cover.
func (d *density) of(first, end int) Range {
	low, high := float32(d.low+float64(first)*d.width), float32(d.low+float64(end)*d.width)
	if d.symmetric {
		most := min(high, max(-d.all.Low, d.all.High))
		return Range{-most, most}
	}
	return Range{max(low, d.all.Low), min(high, d.all.High)}
}

func (d *density) percentile(percent float64) Range {
	outside := d.before[len(d.counts)] * (100 - percent) / 100
	first, end := 0, len(d.counts)
	if !d.symmetric {
		outside /= 2
		for first < d.zero && d.mass(0, first+1) <= outside {
			first++
		}
	}
	for end > max(d.zero, first)+1 && d.mass(end-1, len(d.counts)) <= outside {
		end--
	}
	return d.of(first, end)
}

// search narrows the range from either side in turns, to where cost is least.
func (d *density) search(cost func(first, end int) float64) Range {
	first, end := 0, len(d.counts)
	best := cost(first, end)
	for range 2 {
		upper := len(d.counts) - d.zero
		for i := 1; i < candidates; i++ {
			e := d.zero + max(upper*i/candidates, 1)
			if e <= d.zero || e > len(d.counts) {
				continue
			}
			if c := cost(first, e); c < best {
				best, end = c, e
			}
		}
		for i := 1; i <= candidates && !d.symmetric && d.zero > 0; i++ {
			f := d.zero * i / candidates
			if f >= end {
				break
			}
			if c := cost(f, end); c < best {
				best, first = c, f
			}
		}
	}
	return d.of(first, end)
}

// steps is how many of a grid's steps a range has: a symmetric density is
// that of one half.
func (d *density) steps(levels int) int {
	if d.symmetric {
		return max(levels/2, 1)
	}
	return levels
}

// divergence is the Kullback-Leibler divergence of what quantisation to bins
// first to end leaves of the distribution: within a step all bins that had
// values have the same share, and bins beyond have next to none, that of one
// value among all bins. Where values beyond are added to the ends instead, as
// usual, few far values that matter are given up too readily.
func (d *density) divergence(first, end, levels int) float64 {
	n, steps := end-first, d.steps(levels)
	total := d.before[len(d.counts)]
	if n < steps || total == 0 { // fewer bins than steps: nothing to tell apart
		return math.Inf(1)
	}
	// The sum of c log(c / q), q being mass / occupied within and 1 / n beyond.
	sum := d.logs + (total-d.mass(first, end))*math.Log(float64(len(d.counts)))
	for s := range steps {
		from, to := first+s*n/steps, first+(s+1)*n/steps
		if mass := d.mass(from, to); mass > 0 {
			sum -= mass * math.Log(mass/(d.occupied[to]-d.occupied[from]))
		}
	}
	return sum / total
}

// squares is the expected squared error of quantisation to bins first to end.
func (d *density) squares(first, end, levels int) float64 {
	if end <= first {
		return math.Inf(1)
	}
	low, high := d.low+float64(first)*d.width, d.low+float64(end)*d.width
	step := (high - low) / float64(d.steps(levels)-1)
	sum := d.mass(first, end) * step * step / 12
	for i, n := range d.counts[:first] {
		x := d.low + (float64(i)+.5)*d.width - low
		sum += n * x * x
	}
	for i, n := range d.counts[end:] {
		x := (float64(i) + .5) * d.width
		sum += n * x * x
	}
	return sum
}

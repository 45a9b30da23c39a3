package quantize

import "math"

// bins is how many bins a histogram has.
const bins = 8192

// A Histogram counts the values of an activation. Its bins are as wide as a
// power of two and lie around 0: when a value is beyond them, two neighbours
// become one. So it needs no range in advance, and what it holds does not
// depend on the order of the values.
type Histogram struct {
	Range  Range // of all values; both 0 at first
	Values int64
	// NotFinite counts NaN and infinities, which are in no bin.
	NotFinite int64

	reach  float64 // bins lie from -reach to reach; a power of two
	counts []int64
}

// Add counts values.
func (h *Histogram) Add(values []float32) {
	r, ok := rangeOf(values)
	if !ok {
		values = h.finite(values)
		r, _ = rangeOf(values)
	}
	low, high := r.Low, r.High
	h.Range = Range{min(h.Range.Low, low), max(h.Range.High, high)}
	h.Values += int64(len(values))
	if h.counts == nil {
		return
	}
	h.grow(float64(max(-low, high)))
	scale := bins / 2 / h.reach
	counts := (*[bins]int64)(h.counts)
	for _, x := range values {
		counts[(int(math.Floor(float64(x)*scale))+bins/2)&(bins-1)]++ // always within
	}
}

// NewHistogram makes one with bins; without them it knows the range alone.
func NewHistogram(binned bool) *Histogram {
	h := &Histogram{}
	if binned {
		h.counts = make([]int64, bins)
	}
	return h
}

// finite drops what is not finite, and counts it.
func (h *Histogram) finite(values []float32) []float32 {
	var out []float32
	for _, x := range values {
		if x-x == 0 {
			out = append(out, x)
		} else {
			h.NotFinite++
		}
	}
	return out
}

// leastReach bounds how narrow bins may be.
const leastReach = 0x1p-100

// grow widens the bins until they contain most.
func (h *Histogram) grow(most float64) {
	if most < h.reach {
		return
	}
	reach := leastReach
	if most >= leastReach {
		_, exponent := math.Frexp(most)
		reach = math.Ldexp(1, exponent) // above most
	}
	if h.reach == 0 {
		h.reach = reach
		return
	}
	for h.reach < reach {
		old := h.counts
		merged := make([]int64, bins)
		for i := range bins / 2 {
			merged[bins/4+i] = old[2*i] + old[2*i+1]
		}
		h.counts, h.reach = merged, 2*h.reach
	}
}

// width is that of a bin.
func (h *Histogram) width() float64 { return 2 * h.reach / bins }

// edge is where bin i begins.
func (h *Histogram) edge(i int) float64 { return -h.reach + float64(i)*h.width() }

// occupied are the first and the last bin with values, the latter excluded.
func (h *Histogram) occupied() (first, end int) {
	end = len(h.counts)
	for first < end && h.counts[first] == 0 {
		first++
	}
	for end > first && h.counts[end-1] == 0 {
		end--
	}
	return first, end
}

package quantize

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"galley"
)

// TestHistogram holds that a histogram depends on the values alone, not on
// their order, and loses none.
func TestHistogram(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float32Range(-1e5, 1e5), 1, 200).Draw(t, "values")
		at := rapid.IntRange(0, len(values)).Draw(t, "at")
		one, two := NewHistogram(true), NewHistogram(true)
		one.Add(values)
		two.Add(values[at:])
		two.Add(values[:at])
		if one.Range != two.Range || one.reach != two.reach || !slices.Equal(one.counts, two.counts) {
			t.Fatalf("%v %v, %v %v", one.Range, one.reach, two.Range, two.reach)
		}
		counted := int64(0)
		for i, n := range one.counts {
			counted += n
			within := int64(0)
			for _, x := range values {
				if n > 0 && float64(x) >= one.edge(i)-one.width() && float64(x) <= one.edge(i)+2*one.width() {
					within++
				}
			}
			if within < n {
				t.Fatalf("bin %d counts %d of %d values", i, n, within)
			}
		}
		if counted != int64(len(values)) || one.Values != counted {
			t.Fatalf("%d of %d values", counted, len(values))
		}
	})
}

// TestRanges holds that each search gives a range within that of the values,
// which contains 0.
func TestRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float32Range(-100, 1000), 1, 300).Draw(t, "values")
		s := rapid.SampledFrom(Searches).Draw(t, "search")
		symmetric := rapid.Bool().Draw(t, "symmetric")
		percent := rapid.Float64Range(50, 100).Draw(t, "percentile")
		h := NewHistogram(s.binned())
		h.Add(values)
		r, err := s.Choose(h, percent, uint8Grid, symmetric)
		if err != nil {
			t.Fatal(err)
		}
		most := max(-h.Range.Low, h.Range.High)
		within := r.Low >= h.Range.Low && r.High <= h.Range.High || symmetric && r.Low >= -most && r.High <= most
		if !(r.Low <= 0 && r.High >= 0) || !within {
			t.Fatalf("%s of %v: %v", s, h.Range, r)
		}
		if s == MinMax && r != h.Range {
			t.Fatalf("%v, not %v", r, h.Range)
		}
		if s == Percentile && !symmetric {
			outside := 0
			for _, x := range values {
				if x < r.Low || x > r.High {
					outside++
				}
			}
			if float64(outside) > float64(len(values))*(100-percent)/100 {
				t.Fatalf("%d of %d values lie beyond %v at %v %%", outside, len(values), r, percent)
			}
		}
	})
}

// TestSearchesSearch holds that entropy and MSE cut off far values of a bell,
// and that MSE's range has less error than that of all values.
func TestSearchesSearch(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	values := append(normal(r, 200_000, 1), 40, -25)
	squares := func(rg Range, symmetric bool) float64 {
		a, sum := uint8Grid.Fit(rg, symmetric), 0.
		for _, x := range values {
			d := float64(a.Dequantize(a.Quantize(x))) - float64(x)
			sum += d * d
		}
		return sum
	}
	h := NewHistogram(true)
	h.Add(values)
	for _, symmetric := range []bool{false, true} {
		all := squares(h.Range, symmetric)
		for _, s := range []Search{Entropy, MSE, Percentile} {
			got, err := s.Choose(h, 99.9, uint8Grid, symmetric)
			if err != nil {
				t.Fatal(err)
			}
			if s != MSE && (got.High > 20 || got.Low < -20) || got == h.Range || got.High < 2.5 {
				t.Errorf("%s: %v of %v", s, got, h.Range)
			}
			if e := squares(got, symmetric); s == MSE && e > .8*all {
				t.Errorf("%s: error %v against %v of all values", s, e, all)
			}
		}
	}
	if _, err := Search("guess").Choose(h, 99, uint8Grid, false); galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(err.Error(), `"guess"`) {
		t.Error(err)
	}
}

func TestHistogramNotFinite(t *testing.T) {
	h := NewHistogram(true)
	h.Add([]float32{1, float32(math.NaN()), -2, float32(math.Inf(1)), 0})
	if h.NotFinite != 2 || h.Values != 3 || h.Range != (Range{-2, 1}) {
		t.Errorf("%+v", h)
	}
}

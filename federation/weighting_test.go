package federation

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestShares(t *testing.T) {
	for _, tt := range []struct {
		name string
		rows []int64
		most float64
		want []float64
	}{
		{"in proportion", []int64{100, 300, 600}, 1, []float64{.1, .3, .6}},
		{"one is held", []int64{100, 300, 1_000_000}, .5, []float64{.125, .375, .5}},
		{"two are held", []int64{1, 500, 700, 99}, .4, []float64{.002, .4, .4, .198}},
		{"too few for it", []int64{1, 999}, .3, []float64{.5, .5}},
		{"uniform", []int64{1, 2, 3, 4}, 0, []float64{.25, .25, .25, .25}},
		{"no rows told", []int64{0, 0}, 0, []float64{.5, .5}},
		{"alone", []int64{7}, .4, []float64{1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for i, got := range shares(tt.rows, tt.most) {
				if math.Abs(got-tt.want[i]) > 1e-12 {
					t.Errorf("%v, want %v", shares(tt.rows, tt.most), tt.want)
					break
				}
			}
		})
	}
}

func TestSharesProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(rapid.Int64Range(1, MaxRows), 1, 40).Draw(t, "rows")
		most := rapid.Float64Range(.001, 1).Draw(t, "most")
		got := shares(rows, most)
		sum, bound := 0.0, max(most, 1/float64(len(rows)))
		for i, s := range got {
			if sum += s; s <= 0 || s > bound+1e-9 {
				t.Fatalf("%v: share %d is %g, at most %g", rows, i, s, bound)
			}
			for j, o := range got {
				if rows[i] > rows[j] && s < o-1e-12 {
					t.Fatalf("%v: more rows count less: %v", rows, got)
				}
			}
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Fatalf("shares of %v sum to %g", rows, sum)
		}
		// Who says more than it has gains no more than most.
		lied := slices.Clone(rows)
		lied[0] = MaxRows
		if s := shares(lied, most)[0]; s > bound+1e-9 {
			t.Fatalf("a lie gains %g", s)
		}
	})
}

package dataset

import (
	"context"
	"math"

	"galley"
)

// A Subset is some rows of others, in their order. It holds four bytes a row.
type Subset struct {
	rows   Rows
	chosen []uint32
}

// subsetKey tells the keys of subsets from other uses of the seed.
const subsetKey = 5

// NewSubset chooses a fraction of rows by seed: of each label the same share,
// rounded to whole rows, at least one. It reads the rows twice.
func NewSubset(ctx context.Context, rows Rows, fraction float64, seed uint64) (*Subset, error) {
	if !(fraction > 0 && fraction <= 1) {
		return nil, galley.Errorf(galley.InvalidArgument, "fraction", "%v is not above 0 and at most 1", fraction)
	}
	type stratum struct{ left, needed uint64 }
	strata := map[string]*stratum{}
	err := forEach(ctx, rows, func(_ int, row Row) {
		s := strata[row.Label]
		if s == nil {
			s = new(stratum)
			strata[row.Label] = s
		}
		s.left++
	})
	if err != nil {
		return nil, err
	}
	for _, s := range strata {
		s.needed = max(1, uint64(math.Round(fraction*float64(s.left))))
	}
	// Selection sampling: a row is taken with the chance that as many of its
	// label are still needed among as many that are left.
	sub := &Subset{rows: rows}
	err = forEach(ctx, rows, func(i int, row Row) {
		s := strata[row.Label]
		if s == nil || s.left == 0 {
			return // the rows changed between the passes; checked files do not
		}
		if below(derive(seed, subsetKey, uint64(i)), s.left) < s.needed {
			sub.chosen = append(sub.chosen, uint32(i))
			s.needed--
		}
		s.left--
	})
	return sub, err
}

func forEach(ctx context.Context, rows Rows, do func(i int, row Row)) error {
	for i := range rows.Len() {
		if err := ctx.Err(); err != nil {
			return err
		}
		row, err := rows.At(i)
		if err != nil {
			return err
		}
		do(i, row)
	}
	return nil
}

// Len is the number of chosen rows.
func (s *Subset) Len() int { return len(s.chosen) }

// At reads the i-th chosen row.
func (s *Subset) At(i int) (Row, error) {
	if i < 0 || i >= len(s.chosen) {
		return Row{}, galley.Errorf(galley.OutOfRange, "subset", "row %d of %d", i, len(s.chosen))
	}
	return s.rows.At(int(s.chosen[i]))
}

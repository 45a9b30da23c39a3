package federation

import (
	"cmp"
	"slices"
)

// A Strategy is how partners' training becomes one model.
type Strategy string

// The strategies. Both aggregate alike: what FedProx adds is the proximal term
// of each partner's loss.
const (
	FedAvg  Strategy = "fedavg"  // McMahan et al., 2017
	FedProx Strategy = "fedprox" // Li et al., 2020
)

// A Weighting says what an update counts.
type Weighting string

// The weightings.
const (
	ByRows  Weighting = "rows"    // as the rows it was trained on
	Uniform Weighting = "uniform" // as every other
)

// shares returns what each update counts, in sum 1: in proportion to rows, but
// none more than most of the whole, so that who lies about its rows gains no
// more than that. If there are too few updates for it, each counts the same.
func shares(rows []int64, most float64) []float64 {
	order := make([]int, len(rows))
	total := 0.0
	for i, n := range rows {
		order[i] = i
		total += float64(n)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rows[b], rows[a]) })
	out := make([]float64, len(rows))
	rest, free := total, 1.0 // of those that are not held to most
	held := 0
	for _, i := range order {
		if float64(rows[i])*free <= most*rest || free <= most {
			break
		}
		out[i] = most
		rest -= float64(rows[i])
		free -= most
		held++
	}
	if most*float64(len(rows)) <= 1 {
		for i := range out {
			out[i] = 1 / float64(len(rows))
		}
		return out
	}
	for _, i := range order[held:] {
		out[i] = free * float64(rows[i]) / rest
	}
	return out
}

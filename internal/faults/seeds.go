package faults

import (
	"os"
	"strconv"
	"testing"
)

// The variables that say which seeds a test of faults runs.
const (
	SeedsVariable = "GALLEY_FAULT_SEEDS" // how many, over all forms
	SeedVariable  = "GALLEY_FAULT_SEED"  // this one alone, to repeat a failure
)

// Seeds returns the seeds that a test runs: few of them, or, where the
// environment asks for a number, percent of that number.
func Seeds(t testing.TB, few, percent int) (seeds []uint64) {
	t.Helper()
	if only := os.Getenv(SeedVariable); only != "" {
		seed, err := strconv.ParseUint(only, 10, 32)
		if err != nil {
			t.Fatalf("%s: %v", SeedVariable, err)
		}
		return []uint64{seed}
	}
	n := few
	if asked := os.Getenv(SeedsVariable); asked != "" {
		all, err := strconv.ParseUint(asked, 10, 20)
		if err != nil {
			t.Fatalf("%s: %v", SeedsVariable, err)
		}
		n = max(1, int(all)*percent/100)
	}
	for seed := range n {
		seeds = append(seeds, uint64(seed))
	}
	return seeds
}

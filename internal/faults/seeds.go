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

// Seeds returns the seeds that a test runs: percent of the number that the
// environment asks for. Without one the test is skipped: whatever faults find
// first, they find in a run that was made for it.
func Seeds(t testing.TB, percent int) (seeds []uint64) {
	t.Helper()
	if only := os.Getenv(SeedVariable); only != "" {
		seed, err := strconv.ParseUint(only, 10, 32)
		if err != nil {
			t.Fatalf("%s: %v", SeedVariable, err)
		}
		return []uint64{seed}
	}
	asked := os.Getenv(SeedsVariable)
	if asked == "" {
		t.Skip("make test-faults runs it")
	}
	all, err := strconv.ParseUint(asked, 10, 20)
	if err != nil {
		t.Fatalf("%s: %v", SeedsVariable, err)
	}
	for seed := range max(1, int(all)*percent/100) {
		seeds = append(seeds, uint64(seed))
	}
	return seeds
}

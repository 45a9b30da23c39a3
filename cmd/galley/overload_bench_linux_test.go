//go:build bench

package main

import (
	"slices"
	"testing"
	"time"
)

// TestBenchRefusals measures how soon a caller on a machine of its own would see
// that a server with more to do than may wait refuses: of 99 requests in 100,
// median of five servers.
func TestBenchRefusals(t *testing.T) {
	var most, half []time.Duration
	for range 5 {
		seen := overload(t, 10*time.Second, true)
		if seen.Ordinary != "" {
			t.Skip("a prober without real-time priority waits for the callers, whom it shares the processors with: ", seen.Ordinary)
		}
		half, most = append(half, percentile(seen.Took, .5)), append(most, percentile(seen.Took, .99))
		t.Logf("%d refused, %d admitted: p50 %v, p90 %v, p99 %v", len(seen.Took), seen.Admitted, half[len(half)-1], percentile(seen.Took, .9), most[len(most)-1])
	}
	slices.Sort(half)
	slices.Sort(most)
	t.Logf("p50 %v (%v to %v), p99 %v (%v to %v)", half[2], half[0], half[4], most[2], most[0], most[4])
	if most[2] > 5*time.Millisecond {
		t.Error("a refusal has to come within 5 ms")
	}
}

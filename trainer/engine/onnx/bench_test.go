//go:build peers && bench

package onnx

import (
	"fmt"
	"slices"
	"testing"
)

// TestBenchLossCurve is TestPeerLossCurve at full size.
func TestBenchLossCurve(t *testing.T) { compareCurves(t, fullDuel(200, 0)) }

// TestBenchTraining holds the speed and the peak memory of training to
// PyTorch's. Both processes exist throughout and take turns, so that load on
// the machine meets both alike; processor time counts what threads did, not
// how long they waited for a core.
func TestBenchTraining(t *testing.T) {
	for _, c := range []struct {
		threads int
		dropout float64
	}{{2, 0}, {2, 0.1}, {1, 0}} {
		t.Run(fmt.Sprintf("threads %d, dropout %v", c.threads, c.dropout), func(t *testing.T) {
			d := fullDuel(200, c.dropout)
			d.Threads = c.threads
			benchTraining(t, d)
		})
	}
}

func benchTraining(t *testing.T, d duel) {
	const repeats, steps = 15, 4
	dir := d.write(t)
	theirs, ours := peerSide(t, dir), engineSide(t, dir)
	theirs.train(3)
	ours.train(3)
	var wall, processor, mine, peer spread
	for range repeats {
		p, o := theirs.train(steps), ours.train(steps)
		wall, processor = append(wall, p.Seconds/o.Seconds), append(processor, p.Processor/o.Processor)
		mine, peer = append(mine, 1000*o.Seconds/steps), append(peer, 1000*p.Seconds/steps)
	}
	t.Logf("steps per second, galley to PyTorch: %s; by processor time %s; ms a step: galley %s, PyTorch %s", wall, processor, mine, peer)
	// The promise is for two threads; one thread is measured beside them.
	if m := wall.median(); m < 1 && d.Threads == 2 {
		t.Errorf("galley makes %.3f of PyTorch's steps per second", m)
	}
	a, b := ours.peakMemory(), theirs.peakMemory()
	t.Logf("peak memory: galley %d MiB, PyTorch %d MiB", a>>20, b>>20)
	if a > b {
		t.Errorf("galley needs %.2f of PyTorch's memory", float64(a)/float64(b))
	}
}

// A spread is repeated measurements of one figure.
type spread []float64

func (s spread) median() float64 {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[len(sorted)/2]
}

func (s spread) String() string {
	return fmt.Sprintf("median %.3f (%.3f to %.3f, %d repeats)", s.median(), slices.Min(s), slices.Max(s), len(s))
}

//go:build peers && bench

package main

import (
	"fmt"
	"math"
	"os/exec"
	"testing"
	"time"
)

// TestBenchFlower holds the rounds a second of ten partners that train nothing,
// each an agent in a process of its own, to ten times those of Flower as it is
// deployed, with a superlink and ten supernodes. The model has 250 kB. What is
// counted begins with the end of a first round, in which processes find each
// other.
//
// galley does what it always does: mutual TLS, signed updates, agreements,
// everything on the disk before it counts. Flower does without all of that, and
// its idle processes stay while galley is measured.
func TestBenchFlower(t *testing.T) {
	const (
		partners, numbers    = 10, 62_500
		turns                = 5
		theirRounds, rounds  = 2, 40
		wanted               = 10
		beforehand, tolerant = 2, 0.01
	)
	var fastest pace
	best := 0.0
	for _, p := range paces {
		t.Run(p.name, func(t *testing.T) {
			r := startFlower(t, partners, p).rounds(t, beforehand, numbers)
			t.Logf("%.4g rounds a second", r)
			if r > best {
				best, fastest = r, p
			}
		})
	}
	if best == 0 {
		t.Skip("there is no Flower")
	}
	theirs := startFlower(t, partners, fastest)
	ours := startCoordinator(t, numbers)
	if n := len(ours.weights(t, "news@1")); math.Abs(float64(n)/numbers-1) > tolerant {
		t.Fatalf("the model has %d weights, not %d", n, numbers)
	}
	homes := ours.join(t, partners)
	stop := ours.attend(t, homes, func(i int) *exec.Cmd {
		return exec.Command("idle-partner", homes[i], ours.path("rows.csv"), fmt.Sprint(stepOf(i)))
	})
	var galleys, flowers, ratio spread
	for range turns {
		f := theirs.rounds(t, theirRounds, numbers)
		g := ours.rounds(t, rounds, partners)
		galleys, flowers, ratio = append(galleys, g), append(flowers, f), append(ratio, g/f)
	}
	stop()
	t.Logf("rounds a second: galley %s; Flower %s %s; as a multiple %s", galleys, fastest.name, flowers, ratio)
	if ratio.median() < wanted {
		t.Errorf("galley makes %.1f times Flower's rounds", ratio.median())
	}
	// Flower starts a process for each partner in each round. So does galley where
	// partners train.
	ours.attend(t, homes, func(i int) *exec.Cmd {
		return exec.Command("galley", "partner", "serve", "--home", homes[i], "--data", ours.path("rows.csv"))
	})
	_, over := ours.federate(t, 1+theirRounds, partners)
	t.Logf("with one step of training at each partner, in a process of its own: %.4g rounds a second", perSecond(over))
}

// perSecond is how many rounds there were in a second after the first.
func perSecond(over []time.Time) float64 {
	last := len(over) - 1
	return float64(last) / over[last].Sub(over[0]).Seconds()
}

// rounds runs one round that does not count and n that do, and returns how many
// of these there were in a second.
func (c *coordinator) rounds(t *testing.T, n, partners int) float64 {
	t.Helper()
	version, over := c.federate(t, 1+n, partners)
	before, after := c.weights(t, "news@1"), c.weights(t, version)
	for i := range before {
		// Nobody trained: each partner has added its step in each round.
		if want := float64(before[i]) + float64(1+n)*meanStep(partners); math.Abs(float64(after[i])-want) > 1e-4 {
			t.Fatalf("weight %d is %g after %d rounds, want %g", i, after[i], 1+n, want)
		}
	}
	return perSecond(over)
}

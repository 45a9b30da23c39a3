//go:build bench && linux

package onnx

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"galley/internal/ort/orttest"
	"galley/trainer"
	"galley/trainer/engine"
)

// TestBenchDistill holds what a teacher costs a student's epochs once its
// answers are cached: runs of the same network on the same rows, from their
// first step to their last, with and without it, in turns.
func TestBenchDistill(t *testing.T) {
	const turns, most = 7, 1.15
	d := Driver{Opener: orttest.Opener(t)}
	r := manyRows(t, t.TempDir(), 4_000)
	r.Spec.Resources.CPUs = 1
	teacher, err := d.Train(t.Context(), r, func(engine.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	for _, model := range []trainer.Model{student(1, 64), student(2, 128)} {
		t.Run(fmt.Sprintf("%d layers of %d", model.Layers, model.Hidden), func(t *testing.T) {
			r := r
			r.Spec.Model = model
			r.Spec.Recipe.Epochs, r.Spec.Recipe.MaxSteps, r.Spec.Recipe.CheckpointEvery = 1, 0, 10_000
			with := distilled(r, teacher, "")
			with.Cache = cache
			timeEpoch(t, d, with)
			var wall, processor []float64
			for range turns {
				w0, p0 := timeEpoch(t, d, r)
				w1, p1 := timeEpoch(t, d, with)
				wall, processor = append(wall, w1/w0), append(processor, p1/p0)
			}
			slices.Sort(wall)
			slices.Sort(processor)
			t.Logf("an epoch with a teacher takes %.3f (%.3f to %.3f, %d turns) of one without; by processor time %.3f (%.3f to %.3f)",
				wall[turns/2], wall[0], wall[turns-1], turns, processor[turns/2], processor[0], processor[turns-1])
			if median := processor[turns/2]; median > most {
				t.Errorf("an epoch with a teacher takes %.3f of one without, want at most %v", median, most)
			}
		})
	}
}

// timeEpoch is how long an attempt takes from its first step to its last
// validation, in seconds, and how much of that its threads worked: other work on
// the machine does not count there.
func timeEpoch(t *testing.T, d Driver, r engine.Request) (wall, processor float64) {
	t.Helper()
	r.WorkDir = t.TempDir()
	var began time.Time
	var worked float64
	_, err := d.Train(t.Context(), r, func(e engine.Event) {
		switch e.Kind {
		case engine.Started:
			began, worked = time.Now(), processorSeconds(t)
		case engine.Validated:
			wall, processor = time.Since(began).Seconds(), processorSeconds(t)-worked
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return wall, processor
}

func processorSeconds(t *testing.T) float64 {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// student is a network of those sizes with n-grams.
func student(layers, hidden int) trainer.Model {
	return trainer.Model{
		Architecture: "text-encoder", Layers: layers, Hidden: hidden, Heads: 4, FeedForward: 2 * hidden, MaxLength: 32, Dropout: 0.1,
		NGrams: trainer.NGrams{Orders: 3, Buckets: 1 << 15, Width: 32}, Tokenizer: "wordpiece", Vocabulary: 4000, MinFrequency: 2,
	}
}

package trainer

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestScheduleAt(t *testing.T) {
	for _, c := range []struct {
		s           Schedule
		step, steps int
		want        float64
	}{
		{Schedule{Decay: "cosine", Warmup: 0.1}, 0, 100, 0.1},
		{Schedule{Decay: "cosine", Warmup: 0.1}, 9, 100, 1},
		{Schedule{Decay: "cosine", Warmup: 0.1}, 10, 100, 1},
		{Schedule{Decay: "cosine", Warmup: 0.1}, 55, 100, 0.5},
		{Schedule{Decay: "cosine", Warmup: 0.1}, 100, 100, 0},
		{Schedule{Decay: "cosine", Floor: 0.2}, 50, 100, 0.6},
		{Schedule{Decay: "cosine", Floor: 0.2}, 500, 100, 0.2},
		{Schedule{Decay: "linear", Warmup: 0.5}, 4, 10, 1},
		{Schedule{Decay: "linear", Warmup: 0.5}, 7, 10, 0.6},
		{Schedule{Decay: "linear", Floor: 0.5}, 5, 10, 0.75},
		{Schedule{Decay: "constant", Warmup: 0.2}, 0, 10, 0.5},
		{Schedule{Decay: "constant", Warmup: 0.2}, 9, 10, 1},
		{Schedule{Decay: "linear", Warmup: 1}, 9, 10, 1},   // nothing left to decay in
		{Schedule{Decay: "cosine", Warmup: 0.06}, 0, 1, 1}, // one step
	} {
		if got := c.s.At(c.step, c.steps); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%+v at %d of %d: %v, want %v", c.s, c.step, c.steps, got, c.want)
		}
	}
}

// TestScheduleShape holds that the rate rises to the peak, then falls to the
// floor and never leaves what is between.
func TestScheduleShape(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Schedule{
			Decay:  rapid.SampledFrom([]string{"cosine", "linear", "constant"}).Draw(t, "decay"),
			Warmup: rapid.Float64Range(0, 1).Draw(t, "warmup"),
			Floor:  rapid.Float64Range(0, 1).Draw(t, "floor"),
		}
		steps := rapid.IntRange(1, 300).Draw(t, "steps")
		warm := int(math.Ceil(s.Warmup * float64(steps)))
		before := 0.0
		for step := range steps {
			x := s.At(step, steps)
			if !(x > 0 || s.Floor == 0 && x >= 0) || x > 1+1e-12 {
				t.Fatalf("step %d: %v", step, x)
			}
			if step < warm && x <= before || step > warm && x > before+1e-12 {
				t.Fatalf("step %d, %d of warm-up: %v after %v", step, warm, x, before)
			}
			if step >= warm && x < s.Floor-1e-12 {
				t.Fatalf("step %d: %v is under the floor %v", step, x, s.Floor)
			}
			before = x
		}
	})
}

package trainer

import "math"

// A Schedule is how the learning rate goes over the steps: a linear warm-up,
// then a decay to Floor times the peak.
type Schedule struct {
	Decay  string  `yaml:"decay" json:"decay"`   // cosine, linear or constant
	Warmup float64 `yaml:"warmup" json:"warmup"` // fraction of all steps
	Floor  float64 `yaml:"floor" json:"floor"`   // fraction of the peak at the end
}

// At returns the factor on the peak learning rate at step (from 0) of steps.
func (s Schedule) At(step, steps int) float64 {
	warm := int(math.Ceil(s.Warmup * float64(steps)))
	if step < warm {
		return float64(step+1) / float64(warm)
	}
	done := 0.0
	if steps > warm {
		done = math.Min(1, float64(step-warm)/float64(steps-warm))
	}
	switch s.Decay {
	case "cosine":
		return s.Floor + (1-s.Floor)*(1+math.Cos(math.Pi*done))/2
	case "linear":
		return s.Floor + (1-s.Floor)*(1-done)
	default:
		return 1
	}
}

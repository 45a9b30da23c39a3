package distill

import "math"

// Soften adds share times softmax(logits/temperature) to dst, whose class i is
// the logit at places[i]. It reports false, and leaves dst unfinished, if a
// logit is not finite.
func Soften(dst []float64, logits []float32, places []int, temperature, share float64) bool {
	most := math.Inf(-1)
	for _, z := range logits {
		if math.IsNaN(float64(z)) || math.IsInf(float64(z), 0) {
			return false
		}
		most = math.Max(most, float64(z))
	}
	sum := 0.0
	for _, z := range logits {
		sum += math.Exp((float64(z) - most) / temperature)
	}
	for i, place := range places {
		dst[i] += share * math.Exp((float64(logits[place])-most)/temperature) / sum
	}
	return true
}

// Entropy returns Σ p·log p of a row of probabilities: what KL(p ‖ q) has
// beside the cross-entropy.
func Entropy(p []float32) float64 {
	sum := 0.0
	for _, x := range p {
		if x > 0 {
			sum += float64(x) * math.Log(float64(x))
		}
	}
	return sum
}

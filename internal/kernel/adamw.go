package kernel

import "math"

// AdamWParams are the settings of one AdamW step.
type AdamWParams struct {
	LR          float64 // learning rate
	Beta1       float64 // decay of the gradients' mean
	Beta2       float64 // decay of their squares' mean
	Eps         float64 // added to the denominator
	WeightDecay float64 // decoupled: weights shrink by LR*WeightDecay first
	Step        int     // of this update, from 1; corrects the means' bias
	GradScale   float64 // multiplies the gradient first, as clipping does; 0 is 1
}

// coefficients are what a step needs for each weight, rounded to float32
// once, after computing in float64.
type coefficients struct {
	decay, gradScale, lerp1, beta2, rest2, root2, eps, stepSize float32
}

func (p AdamWParams) coefficients() coefficients {
	gradScale := p.GradScale
	if gradScale == 0 {
		gradScale = 1
	}
	step := float64(max(p.Step, 1))
	return coefficients{
		decay:     float32(1 - float64(p.LR*p.WeightDecay)),
		gradScale: float32(gradScale),
		lerp1:     float32(1 - p.Beta1),
		beta2:     float32(p.Beta2),
		rest2:     float32(1 - p.Beta2),
		root2:     float32(math.Sqrt(1 - math.Pow(p.Beta2, step))),
		eps:       float32(p.Eps),
		stepSize:  float32(-p.LR / (1 - math.Pow(p.Beta1, step))),
	}
}

// AdamW updates the weights w and the running means m and v with the gradient
// g, as torch.optim.AdamW does (Loshchilov and Hutter, 2019):
//
//	w *= 1 - LR*WeightDecay
//	m += (1-Beta1) * (g - m)
//	v  = Beta2*v + (1-Beta2)*g*g
//	w -= LR/(1-Beta1^Step) * m / (sqrt(v)/sqrt(1-Beta2^Step) + Eps)
//
// The four slices have the same length and do not overlap; g is not changed.
func AdamW(w, g, m, v []float32, p AdamWParams, threads int) {
	same(len(w), len(g), len(m), len(v))
	c := p.coefficients()
	Parallel(threads, len(w), chunk, func(i, j int) { adamW(w[i:j], g[i:j], m[i:j], v[i:j], c) })
}

// same panics unless all lengths are equal to n.
func same(n int, lengths ...int) {
	for _, l := range lengths {
		if l != n {
			panic("kernel: slices have different lengths")
		}
	}
}

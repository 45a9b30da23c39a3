package baseline

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
)

// How far lbfgs goes: scikit-learn's tolerance, and enough steps for the
// loosest of the usual penalties.
const (
	tolerance  = 1e-4 // of the largest component of the gradient
	iterations = 400
	memory     = 8 // steps that it remembers
)

// lbfgs minimises a smooth convex function from x, in place, by L-BFGS
// (Nocedal and Wright 2006, algorithm 7.5). f writes the gradient at x and
// returns the value; its error ends the search. Here is one pass over the
// rows per evaluation, and two vectors per remembered step, which is why it
// is not gonum's.
func lbfgs(x []float64, f func(x, gradient []float64) (float64, error)) error {
	gradient := make([]float64, len(x))
	value, err := f(x, gradient)
	if err != nil {
		return err
	}
	next, direction := make([]float64, len(x)), make([]float64, len(x))
	var past history
	for range iterations {
		if floats.Norm(gradient, math.Inf(1)) <= tolerance {
			return nil
		}
		past.direction(direction, gradient)
		slope := floats.Dot(direction, gradient)
		step := 1.0
		if len(past.steps) == 0 {
			step = 1 / max(1, floats.Norm(gradient, 1))
		}
		s := past.reuse(len(x))
		copy(s.x, x)
		copy(s.gradient, gradient)
		moved, err := search(f, x, next, gradient, direction, &value, slope, step)
		if err != nil || !moved {
			return err // as low as the arithmetic goes
		}
		copy(x, next)
		// What is remembered are differences.
		floats.SubTo(s.x, x, s.x)
		floats.SubTo(s.gradient, gradient, s.gradient)
		past.add(s)
	}
	return nil
}

// search finds a step along direction that satisfies the weak Wolfe
// conditions, by bisection. It writes the new point and its gradient and
// value.
func search(f func(x, gradient []float64) (float64, error), x, next, gradient, direction []float64, value *float64, slope, step float64) (bool, error) {
	const enough, flatter, tries = 1e-4, .9, 40
	low, high := 0.0, math.Inf(1)
	for range tries {
		floats.AddScaledTo(next, x, step, direction)
		v, err := f(next, gradient)
		if err != nil {
			return false, err
		}
		switch {
		case !(v <= *value+enough*step*slope):
			high = step
		case floats.Dot(gradient, direction) < flatter*slope:
			low = step
		default:
			*value = v
			return true, nil
		}
		if math.IsInf(high, 1) {
			step *= 2
		} else {
			step = (low + high) / 2
		}
	}
	return false, nil
}

// A history is the last steps, the newest at the end.
type history struct{ steps []remembered }

// A remembered step is how far x and the gradient moved.
type remembered struct {
	x, gradient []float64
	curvature   float64 // their product
}

// reuse returns space for a step: that of the oldest one, if there is no more.
func (h *history) reuse(n int) remembered {
	if len(h.steps) < memory {
		return remembered{x: make([]float64, n), gradient: make([]float64, n)}
	}
	oldest := h.steps[0]
	h.steps = slices.Delete(h.steps, 0, 1)
	return oldest
}

// add remembers a step, unless rounding left it without curvature.
func (h *history) add(s remembered) {
	if s.curvature = floats.Dot(s.x, s.gradient); s.curvature > 0 {
		h.steps = append(h.steps, s)
	}
}

// direction writes minus the approximate inverse Hessian times the gradient.
func (h *history) direction(d, gradient []float64) {
	copy(d, gradient)
	var along [memory]float64
	for i := len(h.steps) - 1; i >= 0; i-- {
		s := h.steps[i]
		along[i] = floats.Dot(s.x, d) / s.curvature
		floats.AddScaled(d, -along[i], s.gradient)
	}
	if n := len(h.steps); n > 0 {
		last := h.steps[n-1]
		floats.Scale(last.curvature/floats.Dot(last.gradient, last.gradient), d)
	}
	for i, s := range h.steps {
		floats.AddScaled(d, along[i]-floats.Dot(s.gradient, d)/s.curvature, s.x)
	}
	floats.Scale(-1, d)
}

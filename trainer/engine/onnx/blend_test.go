package onnx

import (
	"math"
	"math/rand/v2"
	"testing"
)

// blendRows draws logits of which the first branch knows the labels as well
// as encoder says, the second as well as ngrams says.
func blendRows(seed uint64, rows, classes int, encoder, ngrams float64) (e, n []float32, labels []int) {
	r := rand.New(rand.NewPCG(seed, 1))
	for range rows {
		y := r.IntN(classes)
		labels = append(labels, y)
		for c := range classes {
			hit := 0.0
			if c == y {
				hit = 1
			}
			e = append(e, float32(r.NormFloat64()+encoder*hit))
			n = append(n, float32(r.NormFloat64()+ngrams*hit))
		}
	}
	return e, n, labels
}

func TestBlendIsTheLeastLoss(t *testing.T) {
	for seed := range uint64(5) {
		e, n, labels := blendRows(seed, 200, 4, 0.5, 2)
		got := fitBlend(e, n, labels)
		if got.NGrams <= got.Encoder {
			t.Errorf("the branch that knows more counts less: %+v", got)
		}
		least := got.loss(e, n, labels)
		for _, by := range []float64{-0.05, -0.01, 0, 0.01, 0.05} {
			for _, and := range []float64{-0.05, -0.01, 0, 0.01, 0.05} {
				near := blend{clampBlend(got.Encoder + by), clampBlend(got.NGrams + and)}
				if l := near.loss(e, n, labels); l < least-1e-6 {
					t.Errorf("%+v has the loss %v, %+v has %v", got, least, near, l)
				}
			}
		}
	}
}

// TestBlendWithinBounds holds that the blend is the least loss also where a
// branch that misleads would count against itself, were it free to.
func TestBlendWithinBounds(t *testing.T) {
	for seed := range uint64(20) {
		e, n, labels := blendRows(seed, 100, 3, -0.5, 2)
		for i := range n { // the branches say nearly the same, as in training
			n[i] += 0.9 * e[i]
		}
		got := fitBlend(e, n, labels)
		least := got.loss(e, n, labels)
		for encoder := 0.0; encoder <= 2; encoder += 0.05 {
			for ngrams := 0.0; ngrams <= 2; ngrams += 0.05 {
				if l := (blend{encoder, ngrams}).loss(e, n, labels); l < least-1e-6 {
					t.Fatalf("seed %d: %+v has the loss %v, %v and %v have %v", seed, got, least, encoder, ngrams, l)
				}
			}
		}
	}
}

func TestBlendDerivatives(t *testing.T) {
	e, n, labels := blendRows(7, 50, 3, 1, 1)
	b := blend{0.7, 1.3}
	g, h := b.derivatives(e, n, labels)
	const step = 1e-4
	near := func(name string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-3*(1+math.Abs(want)) {
			t.Errorf("%s is %v, by differences %v", name, got, want)
		}
	}
	at := func(encoder, ngrams float64) float64 { return blend{encoder, ngrams}.loss(e, n, labels) }
	near("gradient by encoder", g[0], (at(0.7+step, 1.3)-at(0.7-step, 1.3))/(2*step))
	near("gradient by n-grams", g[1], (at(0.7, 1.3+step)-at(0.7, 1.3-step))/(2*step))
	slope := func(encoder, ngrams float64) [2]float64 {
		g, _ := blend{encoder, ngrams}.derivatives(e, n, labels)
		return g
	}
	near("ee", h[0], (slope(0.7+step, 1.3)[0]-slope(0.7-step, 1.3)[0])/(2*step))
	near("en", h[1], (slope(0.7, 1.3+step)[0]-slope(0.7, 1.3-step)[0])/(2*step))
	near("nn", h[2], (slope(0.7, 1.3+step)[1]-slope(0.7, 1.3-step)[1])/(2*step))
}

// TestBlendIsBounded holds that rows that are all told apart, or not at all,
// leave a blend that can be used.
func TestBlendIsBounded(t *testing.T) {
	for _, knows := range []float64{50, 0, -50} {
		e, n, labels := blendRows(3, 20, 2, knows, knows)
		b := fitBlend(e, n, labels)
		for _, x := range []float64{b.Encoder, b.NGrams} {
			if math.IsNaN(x) || x < 0 || x > mostBlend {
				t.Errorf("branches that know %v have the blend %+v", knows, b)
			}
		}
	}
}

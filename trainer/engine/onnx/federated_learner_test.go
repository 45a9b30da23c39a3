package onnx

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"galley/trainer/architecture"
)

// moved takes a learner away from the weights that it began with.
func moved(l *learner, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	for _, p := range l.params.list {
		for i := p.begin; i < p.end; i++ {
			l.params.weights[i] += float32(0.1 * r.NormFloat64())
		}
	}
}

// The proximal term's gradient is mu·(w-w0) of all weights, also of rows of
// tables that the batch did not name, whatever came before and in however many
// batches a step is taken.
func TestProximalGradient(t *testing.T) {
	const mu = 0.3
	texts, labels := testRows(1, 8)
	whole := []feed{testFeed(t, texts, labels, uneven, uneven.Mass(labels), 0)}
	halves := []feed{
		testFeed(t, texts[:4], labels[:4], uneven, uneven.Mass(labels), 0), testFeed(t, texts[4:], labels[4:], uneven, uneven.Mass(labels), 1),
	}
	for name, feeds := range map[string][]feed{"one batch": whole, "two": halves} {
		plain, held := testLearner(t, 0, testRecipe()), testLearner(t, 0, testRecipe())
		begun := slices.Clone(held.params.weights)
		held.hold(mu)
		for round := range 2 { // the second after rows of tables were touched
			moved(plain, uint64(round))
			copy(held.params.weights, plain.params.weights)
			before := slices.Clone(plain.params.weights)
			lossPlain, _ := mustStep(t, plain, feeds, 0, 0)
			loss, norm := mustStep(t, held, feeds, 0, 1) // a rate of 0 leaves the weights
			grads := plain.params.grads
			if len(feeds) > 1 {
				grads = plain.sums
			}
			want, squares, far := make([]float32, len(grads)), 0.0, 0.0
			for i, g := range grads {
				d := float64(before[i]) - float64(begun[i])
				want[i] = float32(float64(g) + mu*d)
				squares += float64(want[i]) * float64(want[i])
				far += d * d
			}
			closeTo(t, name, held.sums, want, 1e-5)
			if math.Abs(norm-math.Sqrt(squares)) > 1e-5*norm || math.Abs(loss-lossPlain-mu/2*far) > 1e-5*loss {
				t.Errorf("%s: norm %v, want %v; loss %v, want %v", name, norm, math.Sqrt(squares), loss, lossPlain+mu/2*far)
			}
		}
	}
}

// The gradient is that of the loss that is reported: differences of the loss
// along random directions say the same.
func TestProximalDifferences(t *testing.T) {
	l := testLearner(t, 0, testRecipe())
	l.hold(2)
	moved(l, 4)
	texts, labels := testRows(2, 6)
	f := []feed{testFeed(t, texts, labels, uneven, uneven.Mass(labels), 0)}
	at := slices.Clone(l.params.weights)
	mustStep(t, l, f, 0, 0)
	grads := slices.Clone(l.sums)
	r := rand.New(rand.NewPCG(3, 3))
	for range 5 {
		direction, slope := make([]float64, len(at)), 0.0
		for _, p := range l.params.list {
			for i := p.begin; i < p.end; i++ {
				direction[i] = r.NormFloat64()
				slope += direction[i] * float64(grads[i])
			}
		}
		loss := func(by float64) float64 {
			for i := range at {
				l.params.weights[i] = float32(float64(at[i]) + by*direction[i])
			}
			v, _ := mustStep(t, l, f, 0, 0)
			return v
		}
		const h = 1e-3
		if got := (loss(h) - loss(-h)) / (2 * h); math.Abs(got-slope) > 1e-2*math.Abs(slope)+0.05 {
			t.Errorf("slope %v, by differences %v", slope, got)
		}
	}
}

// A term of weight 0 is none: no memory, and the same bits.
func TestNoProximalTerm(t *testing.T) {
	l := testLearner(t, 0, testRecipe())
	if l.hold(0); l.anchor != nil || l.sums != nil {
		t.Error("an anchor is held")
	}
}

// A round is named by the weights that it begins with.
func TestBegunWith(t *testing.T) {
	l := testLearner(t, 0, testRecipe())
	first := l.params.begunWith("sha256:1", 0.5)
	if again := l.params.begunWith("sha256:1", 0.5); again != first {
		t.Error("the same round has two names")
	}
	if l.params.begunWith("sha256:2", 0.5) == first || l.params.begunWith("sha256:1", 0.25) == first {
		t.Error("another spec or term has the same name")
	}
	for _, p := range l.params.list {
		if p.name == architecture.NGramTable {
			l.params.weights[p.end-1] += 1e-3
		}
	}
	if l.params.begunWith("sha256:1", 0.5) == first {
		t.Error("other weights have the same name")
	}
}

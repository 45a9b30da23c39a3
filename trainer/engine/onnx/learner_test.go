package onnx

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"galley"
	"galley/internal/kernel"
	"galley/internal/ort/orttest"
	"galley/onnx/session"
	"galley/trainer"
	"galley/trainer/architecture"
	"galley/trainer/objective"
)

const testClasses, testVocabulary, testLength = 3, 50, 12

func testRecipe() trainer.Recipe {
	return trainer.Recipe{
		Optimizer: trainer.Optimizer{
			Name: "adamw", LR: 1e-2, Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8, WeightDecay: 0.1, TableRate: 3,
		},
		Seed: 5,
	}
}

// testLearner is a small encoder, with n-grams, in training.
func testLearner(t testing.TB, dropout float64, r trainer.Recipe) *learner {
	t.Helper()
	a := architecture.TextEncoder{
		Layers: 1, Hidden: 16, Heads: 2, FeedForward: 32, MaxLength: testLength, Vocabulary: testVocabulary, Dropout: dropout,
		NGrams: architecture.NGrams{Orders: 2, Buckets: 64, Width: 8},
	}
	w := architecture.NewWeighing(a.NGrams, a.Vocabulary, []int32{0})
	texts := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		w.Add(testText(texts))
	}
	m, err := a.Classifier(testClasses, w, 7)
	if err == nil {
		m, err = objective.Classification(m, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLearner(t.Context(), orttest.Opener(t), m, r, lookedUp(m), 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

func testText(r *rand.Rand) []int32 {
	ids := make([]int32, 4+r.IntN(testLength-3))
	for i := range ids {
		ids[i] = 1 + r.Int32N(testVocabulary-1)
	}
	return ids
}

// testFeed lays out texts with their labels; mass is that of the whole step.
func testFeed(t testing.TB, texts [][]int32, labels []int, c objective.Classes, mass float64, stream uint64) feed {
	t.Helper()
	n := int64(len(texts))
	ids, mask := make([]int64, n*testLength), make([]int64, n*testLength)
	for i, text := range texts {
		for j, id := range text {
			ids[i*testLength+j], mask[i*testLength+j] = int64(id), 1
		}
	}
	targets := make([]float32, n*testClasses)
	c.Fill(targets, labels, mass)
	f := feed{inputs: map[string]*session.Tensor{}, symbols: map[string]int64{"batch": n, "length": testLength}, stream: stream}
	add := func(name string, x *session.Tensor, err error) {
		if err != nil {
			t.Fatal(err)
		}
		f.inputs[name] = x
	}
	x, err := session.New(ids, n, testLength)
	add(architecture.InputIDs, x, err)
	x, err = session.New(mask, n, testLength)
	add(architecture.AttentionMask, x, err)
	x, err = session.New(targets, n, testClasses)
	add(objective.Targets, x, err)
	return f
}

func testRows(seed uint64, n int) (texts [][]int32, labels []int) {
	r := rand.New(rand.NewPCG(seed, 8))
	for range n {
		texts, labels = append(texts, testText(r)), append(labels, r.IntN(testClasses))
	}
	return texts, labels
}

func mustStep(t testing.TB, l *learner, feeds []feed, rate, clip float64) (loss, norm float64) {
	t.Helper()
	loss, norm, err := l.step(t.Context(), feeds, 5, rate, clip)
	if err != nil {
		t.Fatal(err)
	}
	return loss, norm
}

// closeTo compares to a part of the largest value.
func closeTo(t testing.TB, what string, got, want []float32, part float64) {
	t.Helper()
	largest, off := 0.0, 0.0
	for i := range want {
		largest = math.Max(largest, math.Abs(float64(want[i])))
		off = math.Max(off, math.Abs(float64(got[i]-want[i])))
	}
	if !(off <= part*largest) || largest == 0 {
		t.Errorf("%s: off by %.2g, the largest is %.2g", what, off, largest)
	}
}

var uneven = objective.Classes{Weights: []float64{0.5, 1, 2}, Smoothing: 0.1}

// TestAccumulation holds that a step on two batches is the step on all their
// rows at once, with class weights whose sum differs between the batches.
func TestAccumulation(t *testing.T) {
	texts, labels := testRows(1, 32)
	mass := uneven.Mass(labels)
	whole, parts := testLearner(t, 0, testRecipe()), testLearner(t, 0, testRecipe())
	for range 3 {
		loss, norm := mustStep(t, whole, []feed{testFeed(t, texts, labels, uneven, mass, 0)}, 1e-2, 1)
		sum, norm2 := mustStep(t, parts, []feed{
			testFeed(t, texts[:16], labels[:16], uneven, mass, 0), testFeed(t, texts[16:], labels[16:], uneven, mass, 1),
		}, 1e-2, 1)
		if math.Abs(loss-sum) > 1e-5*loss || math.Abs(norm-norm2) > 1e-4*norm {
			t.Errorf("loss %v and norm %v in one, %v and %v in two", loss, norm, sum, norm2)
		}
	}
	closeTo(t, "gradients", parts.sums, whole.params.grads, 1e-3)
	closeTo(t, "first moments", parts.params.m, whole.params.m, 1e-4)
}

// TestClipping holds that the norm is that of all gradients together and that
// a larger one is scaled down to the bound.
func TestClipping(t *testing.T) {
	texts, labels := testRows(2, 8)
	f := []feed{testFeed(t, texts, labels, uneven, uneven.Mass(labels), 0)}
	for _, clip := range []float64{0, 1e-3, 1e6} {
		l := testLearner(t, 0, testRecipe())
		_, norm := mustStep(t, l, f, 1e-2, clip)
		squares := 0.0
		for _, g := range l.params.grads {
			squares += float64(g) * float64(g)
		}
		if math.Abs(norm-math.Sqrt(squares)) > 1e-9*norm {
			t.Errorf("norm %v, want %v", norm, math.Sqrt(squares))
		}
		scale := 1.0
		if clip > 0 {
			scale = math.Min(1, clip/norm)
		}
		want := slices.Clone(l.params.grads)
		kernel.Scale(want, float32(scale*(1-0.9)), 1) // the first moment after one step
		closeTo(t, "first moments", l.params.m, want, 1e-6)
	}
}

// TestDecay trains on targets of nothing: all gradients are zero, and only
// decay is left, which is for matrices and tables.
func TestDecay(t *testing.T) {
	l := testLearner(t, 0, testRecipe())
	before := slices.Clone(l.params.weights)
	texts, _ := testRows(3, 4)
	f := testFeed(t, texts, []int{0, 0, 0, 0}, objective.Classes{Weights: []float64{0, 0, 0}}, 1, 0)
	if loss, norm := mustStep(t, l, []feed{f}, 1e-2, 1); loss != 0 || norm != 0 {
		t.Fatalf("loss %v, norm %v", loss, norm)
	}
	for _, p := range l.params.list {
		factor := 1.0
		if len(p.dims) > 1 {
			factor = 1 - 1e-2*0.1
		}
		if p.name == architecture.NGramTable {
			factor = 1 - 3*1e-2*0.1
		}
		for i, w := range l.params.weights[p.begin:p.end] {
			if want := float64(before[p.begin+i]) * factor; math.Abs(float64(w)-want) > 1e-7*math.Abs(want) {
				t.Errorf("%s %v: %v became %v, want %v", p.name, p.dims, before[p.begin+i], w, want)
				break
			}
		}
	}
}

// TestGradientsOfTablesDoNotStay holds that rows which an earlier batch
// touched and this one does not have no gradient left.
func TestGradientsOfTablesDoNotStay(t *testing.T) {
	texts, labels := testRows(4, 12)
	first := testFeed(t, texts[:6], labels[:6], uneven, 6, 0)
	second := testFeed(t, texts[6:], labels[6:], uneven, 6, 0)
	used, fresh := testLearner(t, 0, testRecipe()), testLearner(t, 0, testRecipe())
	for _, f := range []feed{first, second} {
		if _, err := used.gradient(t.Context(), f, 5); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := fresh.gradient(t.Context(), second, 5); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(used.params.grads, fresh.params.grads) {
		t.Error("the gradients depend on the batch before")
	}
}

func TestDropoutIsOfTheBatch(t *testing.T) {
	texts, labels := testRows(5, 6)
	l := testLearner(t, 0.2, testRecipe())
	loss := func(stream uint64) float64 {
		f := testFeed(t, texts, labels, uneven, 6, stream)
		v, err := l.gradient(t.Context(), f, 5)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	first, other, again := loss(1), loss(2), loss(1)
	if first != again || first == other {
		t.Errorf("losses %v, of another batch %v, again %v", first, other, again)
	}
}

func TestNotANumber(t *testing.T) {
	l := testLearner(t, 0, testRecipe())
	texts, labels := testRows(6, 4)
	mustStep(t, l, []feed{testFeed(t, texts, labels, uneven, 4, 0)}, 1e-3, 1)
	before := slices.Clone(l.params.weights)
	for _, mass := range []float64{math.NaN(), 1e-46} { // targets of NaN and of infinity
		_, _, err := l.step(t.Context(), []feed{testFeed(t, texts, labels, uneven, mass, 1)}, 5, 1e-3, 1)
		if galley.CodeOf(err) != galley.OutOfRange || !strings.Contains(err.Error(), "step 2") {
			t.Errorf("mass %v: %v", mass, err)
		}
	}
	if !slices.Equal(before, l.params.weights) || l.steps != 1 {
		t.Error("the weights changed")
	}
}

package evals

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > tolerance {
		t.Errorf("%s = %.6f, want %.6f", what, got, want)
	}
}

func TestWilson(t *testing.T) {
	tests := []struct {
		correct, n       int
		value, low, high float64
	}{
		{879, 1000, .879, .8573, .8978},
		{0, 10, 0, 0, .2775}, // Brown, Cai and DasGupta 2001: n/(n+z²) from the ends
		{10, 10, 1, .7225, 1},
		{81, 263, .3080, .2553, .3662}, // Newcombe 1998, table I
		{15, 148, .1014, .0624, .1605},
		{0, 0, 0, 0, 1},
	}
	for _, tt := range tests {
		m := Wilson(tt.correct, tt.n)
		near(t, "value", m.Value, tt.value, 5e-5)
		near(t, "low", m.Low, tt.low, 6e-5)
		near(t, "high", m.High, tt.high, 6e-5)
	}
}

// onehot gives label i the probability p and shares the rest.
func onehot(labels, i int, p float32) []float32 {
	s := make([]float32, labels)
	for j := range s {
		s[j] = (1 - p) / float32(labels-1)
	}
	s[i] = p
	return s
}

func TestClassificationKnownValues(t *testing.T) {
	// scikit-learn's documentation of f1_score: macro F1 is 0.2666…
	gold, predicted := []int{0, 1, 2, 0, 1, 2}, []int{0, 2, 1, 0, 0, 1}
	c := NewClassification([]string{"a", "b", "c"})
	for i := range gold {
		if err := c.Add(gold[i], onehot(3, predicted[i], .8), "en", 20); err != nil {
			t.Fatal(err)
		}
	}
	m := c.Metrics()
	near(t, "accuracy", m[Accuracy].Value, 2.0/6, 1e-12)
	near(t, "macro_f1", m[MacroF1].Value, .26666667, 1e-8)
	near(t, "loss", m[Loss].Value, -(2*math.Log(.8)+4*math.Log(.1))/6, 1e-6)
	if m[Accuracy].N != 6 || c.N() != 6 {
		t.Errorf("n = %d", m[Accuracy].N)
	}
	if got := c.Confusion().Counts; got[0][0] != 2 || got[1][0] != 1 || got[1][2] != 1 || got[2][1] != 2 {
		t.Errorf("confusion = %v", got)
	}
	if s := c.PerLabel()[0]; s.N != 2 || s.Recall != 1 || math.Abs(s.Precision-2.0/3) > 1e-12 {
		t.Errorf("label a = %+v", s)
	}

	// Log loss of true-class probabilities .9, .9, .8, .65.
	c = NewClassification([]string{"x", "y"})
	for _, p := range []float32{.9, .9, .8, .65} {
		if err := c.Add(0, []float32{p, 1 - p}, "", 0); err != nil {
			t.Fatal(err)
		}
	}
	near(t, "loss", c.Values()[Loss], .2161619, 1e-7)
}

func TestClassificationRefuses(t *testing.T) {
	nan := float32(math.NaN())
	tests := map[string]struct {
		gold   int
		scores []float32
	}{
		"gold below":      {-1, []float32{.5, .5}},
		"gold above":      {2, []float32{.5, .5}},
		"few scores":      {0, []float32{1}},
		"many scores":     {0, []float32{1, 0, 0}},
		"not a number":    {0, []float32{.5, nan}},
		"first not a one": {0, []float32{nan, .5}},
	}
	for name, tt := range tests {
		c := NewClassification([]string{"a", "b"})
		if err := c.Add(tt.gold, tt.scores, "en", 1); err == nil {
			t.Errorf("%s: no error", name)
		}
		if c.N() != 0 || len(c.Slices()) != 0 {
			t.Errorf("%s: counted", name)
		}
	}
}

func TestLossOfZeroProbabilityIsFinite(t *testing.T) {
	c := NewClassification([]string{"a", "b"})
	if err := c.Add(0, []float32{0, 1}, "", 0); err != nil {
		t.Fatal(err)
	}
	near(t, "loss", c.Values()[Loss], 15.942385, 1e-5)
}

func TestNoRows(t *testing.T) {
	for name, m := range NewClassification([]string{"a", "b"}).Metrics() {
		if m.N != 0 || math.IsNaN(m.Value+m.Low+m.High) {
			t.Errorf("%s = %+v", name, m)
		}
	}
}

func TestSlicesPartitionRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := NewClassification([]string{"a", "b", "c"})
		n := rapid.IntRange(1, 60).Draw(t, "n")
		for range n {
			scores := onehot(3, rapid.IntRange(0, 2).Draw(t, "predicted"), .6)
			language := rapid.SampledFrom([]string{"en", "zh", "fr"}).Draw(t, "language")
			if err := c.Add(rapid.IntRange(0, 2).Draw(t, "gold"), scores, language, rapid.IntRange(1, 2000).Draw(t, "length")); err != nil {
				t.Fatal(err)
			}
		}
		rows, weighted := 0, 0.0
		for _, s := range c.Slices() {
			rows += s.N
			weighted += float64(s.N) * s.Metrics[Accuracy].Value
			for name, m := range s.Metrics {
				if m.Low > m.Value || m.Value > m.High {
					if name != MacroF1 { // a bootstrap interval may leave the estimate out
						t.Fatalf("%s %s: %+v", s.Name, name, m)
					}
				}
			}
		}
		if rows != 2*n { // once by language, once by length
			t.Fatalf("slices have %d rows of %d", rows, 2*n)
		}
		if want := 2 * float64(n) * c.Values()[Accuracy]; math.Abs(weighted-want) > 1e-9 {
			t.Fatalf("accuracy of slices %v, of all %v", weighted, want)
		}
	})
}

func TestManyLanguagesShareASlice(t *testing.T) {
	c := NewClassification([]string{"a", "b"})
	for i := range 2 * maxLanguages {
		if err := c.Add(0, []float32{1, 0}, "l"+string(rune('a'+i/26%26))+string(rune('a'+i%26))+string(rune('a'+i/676)), 0); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.Slices()); n != maxLanguages+1 {
		t.Errorf("%d slices", n)
	}
}

// The multinomial bootstrap has the distribution of drawing rows again.
func TestBootstrapAgreesWithRows(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	gold, predicted := make([]int, 400), make([]int, 400)
	var c counts
	for i := range gold {
		gold[i] = random.IntN(4) * random.IntN(2)
		predicted[i] = gold[i]
		if random.Float64() < .2 {
			predicted[i] = random.IntN(4)
		}
		c.add(gold[i], predicted[i])
	}
	m := bootstrapF1(&c, 4)
	var values []float64
	for range 4000 {
		var drawn counts
		for range gold {
			i := random.IntN(len(gold))
			drawn.add(gold[i], predicted[i])
		}
		at, n := drawn.sorted()
		by := make([]margins, 4)
		tally(by, at, n)
		values = append(values, macroF1(by))
	}
	low, high := quantiles(values)
	near(t, "low", m.Low, low, .01)
	near(t, "high", m.High, high, .01)
	if again := bootstrapF1(&c, 4); again != m {
		t.Errorf("%+v, then %+v", m, again)
	}
}

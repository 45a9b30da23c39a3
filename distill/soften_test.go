package distill

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestSoften(t *testing.T) {
	// The example of two teachers, worked out by hand: at T 2, logits 0 and
	// 2·ln 3 are probabilities 1/4 and 3/4.
	l := float32(2 * math.Log(3))
	sums := make([]float64, 2)
	if !Soften(sums, []float32{0, l}, []int{0, 1}, 2, 0.5) || !Soften(sums, []float32{0, l}, []int{1, 0}, 2, 0.5) {
		t.Fatal("refused")
	}
	for i, p := range sums {
		if math.Abs(p-0.5) > 1e-7 {
			t.Errorf("class %d: %v", i, p)
		}
	}
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		if Soften(sums, []float32{0, bad}, []int{0, 1}, 2, 1) {
			t.Errorf("%v was taken", bad)
		}
	}
}

// Whatever the logits, the result is a distribution; the order of classes
// stays; a higher temperature is nearer to even.
func TestSoftenIsADistribution(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		logits := rapid.SliceOfN(rapid.Float32Range(-1e4, 1e4), 2, 8).Draw(t, "logits")
		temperature := rapid.Float64Range(0.05, 100).Draw(t, "temperature")
		places := make([]int, len(logits))
		for i := range places {
			places[i] = i
		}
		cool, warm := make([]float64, len(logits)), make([]float64, len(logits))
		if !Soften(cool, logits, places, temperature, 1) || !Soften(warm, logits, places, 2*temperature, 1) {
			t.Fatal("refused")
		}
		sum, most, mostWarm := 0.0, 0.0, 0.0
		for i, p := range cool {
			sum, most, mostWarm = sum+p, math.Max(most, p), math.Max(mostWarm, warm[i])
			for j, q := range cool {
				if logits[i] > logits[j] && p < q {
					t.Fatalf("class %d has %v, class %d %v", i, p, j, q)
				}
			}
		}
		if math.Abs(sum-1) > 1e-9 || mostWarm > most+1e-12 {
			t.Fatalf("%v, and warmer %v", cool, warm)
		}
	})
}

func TestEntropy(t *testing.T) {
	if got := Entropy([]float32{0.5, 0.25, 0.25, 0}); math.Abs(got+1.5*math.Ln2) > 1e-7 {
		t.Errorf("%v", got)
	}
}

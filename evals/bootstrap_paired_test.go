package evals

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// draw makes answers of two models that are right so often, on rows of three
// labels of which the last is rare.
func draw(random *rand.Rand, rows int, a, b float64) (t triples) {
	t = newTriples()
	answer := func(gold int, share float64) int {
		if random.Float64() < share {
			return gold
		}
		return (gold + 1 + random.IntN(2)) % 3
	}
	for range rows {
		gold := []int{0, 0, 0, 0, 0, 1, 1, 1, 1, 2}[random.IntN(10)]
		t.add(gold, answer(gold, a), answer(gold, b))
	}
	return t
}

// The intervals hold the difference of two models about 95 times in 100.
func TestPairedBootstrapCovers(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates 300 comparisons")
	}
	random := rand.New(rand.NewPCG(11, 12))
	large := draw(random, 400_000, .85, .8)
	truth := large.differences(3)
	covered := map[string]int{}
	const trials = 300
	for range trials {
		comparison := draw(random, 400, .85, .8)
		for name, m := range comparison.differences(3) {
			if m.Low <= truth[name].Value && truth[name].Value <= m.High {
				covered[name]++
			}
		}
	}
	for _, name := range []string{Accuracy, MacroF1} {
		if share := float64(covered[name]) / trials; share < .915 || share > .98 {
			t.Errorf("%s: covers %.3f of the time", name, share)
		}
	}
}

// Both models change places with the signs, the values are those of the two
// counts alone, and the same rows give the same interval.
func TestPairedBootstrapProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		labels := rapid.IntRange(2, 5).Draw(t, "labels")
		label := rapid.IntRange(0, labels-1)
		ab, ba, a, b := newTriples(), newTriples(), counts{}, counts{}
		for range rapid.IntRange(1, 20).Draw(t, "rows") {
			gold, x, y := label.Draw(t, "gold"), label.Draw(t, "a"), label.Draw(t, "b")
			ab.add(gold, x, y)
			ba.add(gold, y, x)
			a.add(gold, x)
			b.add(gold, y)
		}
		forth, back, again := ab.differences(labels), ba.differences(labels), ab.differences(labels)
		margin := func(c *counts) float64 {
			by := make([]margins, labels)
			at, n := c.sorted()
			tally(by, at, n)
			return macroF1(by)
		}
		if got, want := forth[MacroF1].Value, margin(&a)-margin(&b); math.Abs(got-want) > 1e-12 {
			t.Fatalf("macro F1 differs by %v, want %v", got, want)
		}
		if got, want := forth[Accuracy].Value, float64(a.correct()-b.correct())/float64(a.n); math.Abs(got-want) > 1e-12 {
			t.Fatalf("accuracy differs by %v, want %v", got, want)
		}
		for name, m := range forth {
			if math.Abs(m.Value+back[name].Value) > 1e-12 || m != again[name] || m.Low > m.High || m.Low < -1 || m.High > 1 {
				t.Fatalf("%s: %+v, the other way %+v, again %+v", name, m, back[name], again[name])
			}
		}
	})
}

// With too many triples to remember there is no interval, and no more memory.
func TestPairedBootstrapIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a large map")
	}
	many := newTriples()
	for i := range maxTriples + 10 {
		many.add(i%600, i/600%600, i%600)
	}
	if d := many.differences(600); d != nil || many.cells != nil {
		t.Errorf("%v of %d triples", d, len(many.cells))
	}
	if none := newTriples(); none.differences(3) != nil {
		t.Error("no rows have differences")
	}
}

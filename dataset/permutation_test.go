package dataset

import (
	"testing"

	"pgregory.net/rapid"
)

func TestPermutationIsBijection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 3000).Draw(t, "n")
		p := NewPermutation(rapid.Uint64().Draw(t, "seed"), rapid.Uint64().Draw(t, "epoch"), n)
		seen := make([]bool, n)
		for i := range n {
			at := p.At(i)
			if at < 0 || at >= n || seen[at] {
				t.Fatalf("place %d has %d", i, at)
			}
			seen[at] = true
		}
	})
}

func TestPermutationLarge(t *testing.T) {
	for _, n := range []int{1 << 31, 1<<32 - 1, 1<<40 + 12345} {
		p := NewPermutation(1, 2, n)
		for i := range 1000 {
			if at := p.At(n - 1 - i); at < 0 || at >= n {
				t.Fatal(n, i, at)
			}
		}
	}
}

// Epochs and seeds give orders that agree about as often as chance does.
func TestPermutationsDiffer(t *testing.T) {
	const n = 10_000
	a := NewPermutation(7, 0, n)
	for _, b := range []Permutation{NewPermutation(7, 1, n), NewPermutation(8, 0, n)} {
		same := 0
		for i := range n {
			if a.At(i) == b.At(i) {
				same++
			}
		}
		if same > 10 { // Poisson with mean 1
			t.Errorf("%d places agree", same)
		}
	}
}

// Over many epochs each element is at each place equally often, and each pair
// of elements is equally often in order. n = 5 gives 4 degrees of freedom a
// place; bounds are far in the tail.
func TestPermutationIsEven(t *testing.T) {
	const n, epochs = 5, 20_000
	var at [n][n]float64
	ordered := 0
	for epoch := range uint64(epochs) {
		p := NewPermutation(3, epoch, n)
		var place [n]int
		for i := range n {
			e := p.At(i)
			at[e][i]++
			place[e] = i
		}
		if place[0] < place[4] {
			ordered++
		}
	}
	for e := range n {
		chi := 0.0
		for i := range n {
			d := at[e][i] - epochs/n
			chi += d * d / (epochs / n)
		}
		if chi > 25 {
			t.Errorf("element %d: chi-squared %.1f over places %v", e, chi, at[e])
		}
	}
	if ordered < epochs/2-400 || ordered > epochs/2+400 {
		t.Errorf("0 before 4 in %d of %d epochs", ordered, epochs)
	}
}

func BenchmarkPermutation(b *testing.B) {
	p := NewPermutation(1, 1, 1_000_003)
	for i := 0; b.Loop(); i = (i + 1) % 1_000_003 {
		p.At(i)
	}
}

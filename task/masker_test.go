package task

import (
	"math"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var specials = []int32{0, 1, 2, 3, 4}

func TestMask(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(6, 50).Draw(t, "size")
		ids := rapid.SliceOfN(rapid.Int32Range(0, int32(size)-1), 0, 40).Draw(t, "ids")
		fraction := rapid.Float64Range(0.01, 0.99).Draw(t, "fraction")
		seed := rapid.Uint64().Draw(t, "seed")
		m, err := newMasker(size, 4, specials, fraction, seed)
		if err != nil {
			t.Fatal(err)
		}
		before := slices.Clone(ids)
		got := m.Mask(ids, 1, 2)
		if !slices.Equal(ids, before) || len(got.Positions) != len(got.Targets) || len(got.IDs) != len(ids) {
			t.Fatal(got)
		}
		if again := m.Mask(ids, 1, 2); !reflect.DeepEqual(got, again) {
			t.Fatal("not the same the second time")
		}
		ordinary := 0
		for i, id := range ids {
			special := slices.Contains(specials, id)
			if !special {
				ordinary++
			}
			at, chosen := slices.BinarySearch(got.Positions, int32(i))
			switch {
			case chosen && (special || got.Targets[at] != id):
				t.Fatalf("position %d: %v of %v", i, got, ids)
			case !chosen && got.IDs[i] != id:
				t.Fatalf("position %d changed: %v of %v", i, got, ids)
			case chosen && got.IDs[i] != 4 && (slices.Contains(specials, got.IDs[i]) || int(got.IDs[i]) >= size):
				t.Fatalf("position %d has token %d", i, got.IDs[i])
			}
		}
		if n := float64(len(got.Positions)); n < math.Min(1, float64(ordinary)) || math.Abs(n-fraction*float64(ordinary)) > 1 {
			t.Fatalf("%v of %d chosen at %v", n, ordinary, fraction)
		}
	})
}

// Over many rows 15 % are chosen, each position as often as the others, and
// the chosen become 80/10/10; epochs and rows differ.
func TestMaskShares(t *testing.T) {
	const length, rows, size = 24, 20_000, 1000
	m, err := newMasker(size, 4, specials, DefaultMaskFraction, 9)
	if err != nil {
		t.Fatal(err)
	}
	ids := []int32{2}
	for i := range int32(length) {
		ids = append(ids, 100+i)
	}
	ids = append(ids, 3)
	var at [length + 2]float64
	var masked, random, kept, total float64
	others := map[int32]bool{}
	for row := range rows {
		got := m.Mask(ids, 0, row)
		for i, p := range got.Positions {
			at[p]++
			total++
			switch got.IDs[p] {
			case 4:
				masked++
			case got.Targets[i]:
				kept++
			default:
				random++
				others[got.IDs[p]] = true
			}
		}
	}
	near := func(what string, got, want, tolerance float64) {
		if math.Abs(got-want) > tolerance {
			t.Errorf("%s: %.4f, want %.4f", what, got, want)
		}
	}
	near("chosen", total/(rows*length), 0.15, 0.002)
	near("masked", masked/total, 0.8, 0.006)
	near("random", random/total, 0.1, 0.005)
	near("kept", kept/total, 0.1, 0.005)
	for i := 1; i <= length; i++ {
		near("a position", at[i]/rows, 0.15, 0.012)
	}
	if at[0] != 0 || at[length+1] != 0 || len(others) < 950 {
		t.Error(at[0], at[length+1], len(others))
	}
	same := 0
	for row := range 200 {
		if reflect.DeepEqual(m.Mask(ids, 0, row), m.Mask(ids, 1, row)) || reflect.DeepEqual(m.Mask(ids, 0, row), m.Mask(ids, 0, row+1)) {
			same++
		}
	}
	if same > 5 {
		t.Errorf("%d of 200 rows are masked as another epoch or row", same)
	}
}

func TestNewMasker(t *testing.T) {
	m, err := NewMasker(tokenizer(t), DefaultMaskFraction, 1)
	if err != nil || m.mask != 4 || !slices.Equal(m.special, specials) || m.size != len(words) {
		t.Fatal(m, err)
	}
	for _, fraction := range []float64{0, 1, -1, math.NaN()} {
		if _, err := NewMasker(tokenizer(t), fraction, 1); err == nil {
			t.Errorf("fraction %v is accepted", fraction)
		}
	}
	if _, err := newMasker(10, -1, nil, 0.15, 1); err == nil {
		t.Error("a tokenizer without a mask is accepted")
	}
	if _, err := newMasker(1, 0, []int32{0}, 0.15, 1); err == nil {
		t.Error("a vocabulary of special tokens is accepted")
	}
}

func BenchmarkMask(b *testing.B) {
	m, err := newMasker(8000, 4, specials, DefaultMaskFraction, 9)
	if err != nil {
		b.Fatal(err)
	}
	ids := make([]int32, 64)
	for i := range ids {
		ids[i] = int32(100 + i)
	}
	for i := 0; b.Loop(); i++ {
		m.Mask(ids, 0, i)
	}
}

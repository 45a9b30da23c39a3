package evals

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The most frequent mistakes come first, those as frequent in the order of the
// labels, and there are not too many of them.
func TestConfused(t *testing.T) {
	labels := []string{"a", "b", "c"}
	c := NewClassification(labels)
	for _, row := range []struct{ gold, predicted, times int }{{0, 0, 5}, {0, 1, 3}, {0, 2, 2}, {1, 0, 2}, {2, 2, 9}, {2, 1, 4}} {
		for range row.times {
			if err := c.Add(row.gold, onehot(3, row.predicted, .9), "", 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := fmt.Sprint(c.Confused())
	if want := fmt.Sprint([]ConfusedPair{{"c", "b", 4, 4. / 13}, {"a", "b", 3, .3}, {"a", "c", 2, .2}, {"b", "a", 2, 1}}); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if none := NewClassification(labels).Confused(); none == nil || len(none) != 0 {
		t.Errorf("no rows: %v", none)
	}
	many := NewClassification(make([]string, 200))
	for i := range 200 {
		if err := many.Add(i, onehot(200, (i+1)%200, .9), "", 0); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(many.Confused()); n != MaxConfusedPairs || many.Confusion() != nil {
		t.Errorf("%d pairs of 200 labels", n)
	}
}

// A histogram has every request once, in buckets that follow on each other.
func TestHistogram(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		times := rapid.SliceOfN(rapid.Float64Range(0, 1e4), 1, 200).Draw(t, "times")
		slices.Sort(times)
		n := 0
		buckets := histogram(times)
		for i, b := range buckets {
			n += b.N
			if b.FromMS > b.ToMS || i > 0 && b.FromMS != buckets[i-1].ToMS {
				t.Fatalf("%+v", buckets)
			}
		}
		if n != len(times) || len(buckets) > mostBuckets {
			t.Fatalf("%d of %d requests in %d buckets", n, len(times), len(buckets))
		}
	})
}

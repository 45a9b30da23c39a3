package evals

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkMetrics takes the metrics of 10,000 rows, intervals included.
func BenchmarkMetrics(b *testing.B) {
	for _, labels := range []int{6, 15, 100} {
		b.Run(fmt.Sprint(labels, "labels"), func(b *testing.B) {
			random := rand.New(rand.NewPCG(1, 1))
			c := NewClassification(make([]string, labels))
			for range 10_000 {
				gold := random.IntN(labels)
				predicted := gold
				if random.IntN(8) == 0 {
					predicted = random.IntN(labels)
				}
				if err := c.Add(gold, onehot(labels, predicted, .9), "en", 10); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				c.Metrics()
			}
		})
	}
}

// BenchmarkDifferences takes the paired bootstrap of 10,000 rows.
func BenchmarkDifferences(b *testing.B) {
	for _, labels := range []int{6, 15, 100} {
		b.Run(fmt.Sprint(labels, "labels"), func(b *testing.B) {
			random := rand.New(rand.NewPCG(1, 1))
			joint := newTriples()
			for range 10_000 {
				gold := random.IntN(labels)
				answer := func() int {
					if random.IntN(8) == 0 {
						return random.IntN(labels)
					}
					return gold
				}
				joint.add(gold, answer(), answer())
			}
			for b.Loop() {
				joint.differences(labels)
			}
		})
	}
}

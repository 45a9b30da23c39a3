package kernel

import (
	"strconv"
	"testing"
)

const benchSize = 4 << 20

func BenchmarkAdamW(b *testing.B) {
	w, g, m, v := normal(1, benchSize), normal(2, benchSize), make([]float32, benchSize), make([]float32, benchSize)
	p := AdamWParams{LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.01, Step: 1}
	for _, threads := range []int{1, 2} {
		b.Run(strconv.Itoa(threads)+"threads", func(b *testing.B) {
			b.SetBytes(7 * 4 * benchSize) // four read, three written
			for b.Loop() {
				AdamW(w, g, m, v, p, threads)
			}
		})
	}
	b.Run("go", func(b *testing.B) {
		b.SetBytes(7 * 4 * benchSize)
		for b.Loop() {
			adamWGo(w, g, m, v, p.coefficients())
		}
	})
}

func BenchmarkSumSquares(b *testing.B) {
	x := normal(1, benchSize)
	b.SetBytes(4 * benchSize)
	for b.Loop() {
		SumSquares(x, 2)
	}
}

func BenchmarkDropoutMask(b *testing.B) {
	x := make([]float32, benchSize)
	b.SetBytes(4 * benchSize)
	for b.Loop() {
		DropoutMask(x, 0.1, 1, 1, 0, 2)
	}
}

func BenchmarkAddRows(b *testing.B) {
	const width, height, n = 256, 30000, 4096
	table, rows, indices := make([]float32, width*height), normal(1, width*n), make([]int64, n)
	for i := range indices {
		indices[i] = int64(philox(uint64(i), 0, 0)[0] % height)
	}
	b.SetBytes(4 * width * n)
	for b.Loop() {
		if err := AddRows(table, width, indices, rows); err != nil {
			b.Fatal(err)
		}
	}
}

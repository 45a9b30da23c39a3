package kernel

import (
	"fmt"

	"galley"
)

// SumSquares returns the sum of x's squares, added up in float64: within a
// chunk in interleaved lanes, then chunk after chunk. The bits are the same
// for any number of threads.
func SumSquares(x []float32, threads int) float64 {
	parts := make([]float64, (len(x)+chunk-1)/chunk)
	Parallel(threads, len(x), chunk, func(i, j int) { parts[i/chunk] = sumSquares(x[i:j]) })
	sum := 0.0
	for _, p := range parts {
		sum += p
	}
	return sum
}

// Scale multiplies x by a.
func Scale(x []float32, a float32, threads int) {
	Parallel(threads, len(x), chunk, func(i, j int) { scale(x[i:j], a) })
}

// AddScaled adds a*x to dst. They have the same length and do not overlap.
func AddScaled(dst, x []float32, a float32, threads int) {
	same(len(dst), len(x))
	Parallel(threads, len(dst), chunk, func(i, j int) { addScaled(dst[i:j], x[i:j], a) })
}

// AddRows adds row i of rows [N, width] to row indices[i] of table [V, width],
// in the order of i: the gradient of a look-up. A negative index counts from
// the table's end, as in ONNX Gather. If an index is outside the table nothing
// is added and the error, OutOfRange, names it.
func AddRows(table []float32, width int, indices []int64, rows []float32) error {
	return AddRowsScaled(table, width, indices, rows, 1)
}

// AddRowsScaled is AddRows with each row multiplied by a.
func AddRowsScaled(table []float32, width int, indices []int64, rows []float32, a float32) error {
	if width <= 0 || len(table)%width != 0 {
		panic("kernel: the table is not made of rows")
	}
	same(len(indices)*width, len(rows))
	height := int64(len(table) / width)
	wrapped := indices
	for i, row := range indices {
		if row < -height || row >= height {
			return galley.Errorf(galley.OutOfRange, fmt.Sprintf("index %d", i), "row %d is outside a table of %d rows", row, height)
		}
		if row < 0 {
			if &wrapped[0] == &indices[0] {
				wrapped = append([]int64{}, indices...)
			}
			wrapped[i] += height
		}
	}
	addRows(table, width, wrapped, rows, a)
	return nil
}

//go:build !cgo

package kernel

func adamW(w, g, m, v []float32, c coefficients) { adamWGo(w, g, m, v, c) }

func sumSquares(x []float32) float64 { return sumSquaresGo(x) }

func scale(x []float32, a float32) { scaleGo(x, a) }

func addScaled(dst, x []float32, a float32) { addScaledGo(dst, x, a) }

func addRows(table []float32, width int, indices []int64, rows []float32, a float32) {
	addRowsGo(table, width, indices, rows, a)
}

func dropout(dst []float32, seed, stream, block uint64, threshold uint32, keep float32) {
	dropoutGo(dst, seed, stream, block, threshold, keep)
}

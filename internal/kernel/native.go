//go:build cgo

package kernel

// #cgo CFLAGS: -O3 -std=c11
// #cgo LDFLAGS: -lm
// #include "kernel.h"
import "C"

import "unsafe"

func floats(x []float32) *C.float { return (*C.float)(unsafe.Pointer(unsafe.SliceData(x))) }

func adamW(w, g, m, v []float32, c coefficients) {
	p := C.kernel_adamw_params{
		decay: C.float(c.decay), grad_scale: C.float(c.gradScale), lerp1: C.float(c.lerp1), beta2: C.float(c.beta2),
		rest2: C.float(c.rest2), root2: C.float(c.root2), eps: C.float(c.eps), step_size: C.float(c.stepSize),
	}
	C.kernel_adamw(floats(w), floats(g), floats(m), floats(v), C.size_t(len(w)), &p)
}

func sumSquares(x []float32) float64 {
	return float64(C.kernel_sum_squares(floats(x), C.size_t(len(x))))
}

func scale(x []float32, a float32) { C.kernel_scale(floats(x), C.size_t(len(x)), C.float(a)) }

func addScaled(dst, x []float32, a float32) {
	C.kernel_add_scaled(floats(dst), floats(x), C.size_t(len(dst)), C.float(a))
}

func addRows(table []float32, width int, indices []int64, rows []float32, a float32) {
	C.kernel_add_rows(floats(table), C.size_t(width), (*C.int64_t)(unsafe.Pointer(unsafe.SliceData(indices))),
		C.size_t(len(indices)), floats(rows), C.float(a))
}

func dropout(dst []float32, seed, stream, block uint64, threshold uint32, keep float32) {
	C.kernel_dropout(floats(dst), C.size_t(len(dst)/4), C.uint64_t(seed), C.uint64_t(stream), C.uint64_t(block),
		C.uint32_t(threshold), C.float(keep))
}

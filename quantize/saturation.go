package quantize

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/cpu"
)

// Saturates reports whether this processor adds 8-bit products in 16 bits,
// which saturate: x86 without the instructions for neural networks. There the
// sum of two products of a uint8 and an int8 can be cut off (VPMADDUBSW), and
// a model loses accuracy that it keeps elsewhere.
func Saturates() bool {
	return runtime.GOARCH == "amd64" && !cpu.X86.HasAVX512VNNI && !cpu.X86.HasAVXVNNI
}

// saturationLine says what share of the pairs of weights can saturate, and
// whether they do here.
func saturationLine(share float64, here bool) string {
	line := fmt.Sprintf("%.2f %% of the pairs of weights can saturate on x86 processors without VNNI", 100*share)
	if here {
		return line + ", as this one is: write weights: {saturation: prevent}"
	}
	return line + "; this one does not. For others write weights: {saturation: prevent}"
}

// saturable counts the pairs of neighbouring weights along the summed axis of
// a [k, n] matrix whose products with 255 leave 16 bits, and all pairs.
func saturable(p *packed) (over, pairs int64) {
	k, n := int(p.dims[0]), int(p.dims[1])
	const most = 32767 / 255
	for i := 0; i+1 < k; i += 2 {
		a, b := p.data[i*n:(i+1)*n], p.data[(i+1)*n:(i+2)*n]
		for j := range a {
			x, y := int(int8(a[j])), int(int8(b[j]))
			if max(x, 0)+max(y, 0) > most || min(x, 0)+min(y, 0) < -most {
				over++
			}
		}
	}
	return over, int64(k/2) * int64(n)
}

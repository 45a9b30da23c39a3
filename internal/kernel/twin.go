package kernel

import "math"

// The Go twins of kernel.c. A conversion around a product rounds it, which
// keeps the compiler from fusing it with the addition that follows.

func adamWGo(w, g, m, v []float32, c coefficients) {
	g, m, v = g[:len(w)], m[:len(w)], v[:len(w)]
	for i := range w {
		gi := float32(g[i] * c.gradScale)
		wi := float32(w[i] * c.decay)
		mi := m[i] + float32(c.lerp1*float32(gi-m[i]))
		vi := float32(v[i]*c.beta2) + float32(float32(c.rest2*gi)*gi)
		m[i] = mi
		v[i] = vi
		root := float32(math.Sqrt(float64(vi))) // rounds as a float32 root does
		w[i] = wi + float32(c.stepSize*mi)/(float32(root/c.root2)+c.eps)
	}
}

// lanes is the number of sums kept side by side.
const lanes = 32

func sumSquaresGo(x []float32) float64 {
	var lane [lanes]float64
	for ; len(x) >= lanes; x = x[lanes:] {
		for j, f := range x[:lanes] {
			lane[j] += float64(float64(f) * float64(f))
		}
	}
	for j, f := range x {
		lane[j] += float64(float64(f) * float64(f))
	}
	for half := lanes / 2; half > 0; half /= 2 {
		for j := range half {
			lane[j] += lane[j+half]
		}
	}
	return lane[0]
}

func scaleGo(x []float32, a float32) {
	for i := range x {
		x[i] *= a
	}
}

func addScaledGo(dst, x []float32, a float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] += float32(a * x[i])
	}
}

func addRowsGo(table []float32, width int, indices []int64, rows []float32, a float32) {
	for r, row := range indices {
		to := table[int(row)*width:][:width]
		from := rows[r*width:][:width]
		for i := range to {
			to[i] += float32(a * from[i])
		}
	}
}

func dropoutGo(dst []float32, seed, stream, block uint64, threshold uint32, keep float32) {
	for ; len(dst) >= 4; dst = dst[4:] {
		for j, x := range philox(block, stream, seed) {
			dst[j] = 0
			if x >= threshold {
				dst[j] = keep
			}
		}
		block++
	}
}

package kernel

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"galley"
)

// sizes reach into the loops' bodies, tails, lanes and chunks.
var sizes = []int{0, 1, 3, 4, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1000, chunk - 1, chunk, chunk + 1, 3*chunk + 5}

func normal(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// sameBits compares bit by bit.
func sameBits(t testing.TB, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d of %d is %v (%#x), want %v (%#x)", what, i, len(got),
				got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

func TestAdamWIsItsTwin(t *testing.T) {
	p := AdamWParams{LR: 3e-3, Beta1: 0.9, Beta2: 0.98, Eps: 1e-8, WeightDecay: 0.01, GradScale: 0.7}
	for _, n := range sizes {
		w, m, v := normal(1, n), make([]float32, n), make([]float32, n)
		w2, m2, v2 := slices.Clone(w), slices.Clone(m), slices.Clone(v)
		for step := 1; step <= 5; step++ {
			p.Step = step
			g := normal(uint64(step)+10, n)
			for i := range g { // subnormal squares, zeros and large ones, too
				switch i % 7 {
				case 0:
					g[i] *= 1e-22
				case 1:
					g[i] = 0
				case 2:
					g[i] *= 1e12
				}
			}
			before := slices.Clone(g)
			AdamW(w, g, m, v, p, 1+step%3)
			adamWGo(w2, g, m2, v2, p.coefficients())
			sameBits(t, "gradient", g, before)
		}
		sameBits(t, "weights", w, w2)
		sameBits(t, "first moment", m, m2)
		sameBits(t, "second moment", v, v2)
	}
}

func TestAdamWAgainstFloat64(t *testing.T) {
	const n = 1000
	p := AdamWParams{LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.1}
	w, m, v := normal(1, n), make([]float32, n), make([]float32, n)
	W, M, V := make([]float64, n), make([]float64, n), make([]float64, n)
	for i := range w {
		W[i] = float64(w[i])
	}
	for step := 1; step <= 50; step++ {
		p.Step = step
		g := normal(uint64(step)+100, n)
		AdamW(w, g, m, v, p, 2)
		for i := range W {
			G := float64(g[i])
			W[i] *= 1 - p.LR*p.WeightDecay
			M[i] = p.Beta1*M[i] + (1-p.Beta1)*G
			V[i] = p.Beta2*V[i] + (1-p.Beta2)*G*G
			W[i] -= p.LR / (1 - math.Pow(p.Beta1, float64(step))) * M[i] /
				(math.Sqrt(V[i])/math.Sqrt(1-math.Pow(p.Beta2, float64(step))) + p.Eps)
		}
	}
	for i := range w {
		if d := math.Abs(float64(w[i]) - W[i]); d > 2e-6*(1+math.Abs(W[i])) { // 50 roundings of 6e-8
			t.Fatalf("weight %d is %v, want %v", i, w[i], W[i])
		}
	}
}

func TestSumSquares(t *testing.T) {
	for _, n := range sizes {
		x := normal(uint64(n), n)
		want := 0.0
		for _, f := range x {
			want += float64(f) * float64(f)
		}
		one := SumSquares(x, 1)
		if math.Abs(one-want) > 1e-12*want {
			t.Fatalf("%d elements: %v, want %v", n, one, want)
		}
		for _, threads := range []int{0, 2, 3, 7} {
			if got := SumSquares(x, threads); got != one {
				t.Fatalf("%d elements on %d threads: %v, on one %v", n, threads, got, one)
			}
		}
		if n <= chunk && n > 0 && sumSquaresGo(x) != one {
			t.Fatalf("%d elements: the Go twin has %v, want %v", n, sumSquaresGo(x), one)
		}
	}
}

func TestElementwiseAreTheirTwins(t *testing.T) {
	for _, n := range sizes {
		x, y := normal(1, n), normal(2, n)
		x2 := slices.Clone(x)
		AddScaled(x, y, 0.3, 2)
		addScaledGo(x2, y, 0.3)
		sameBits(t, "AddScaled", x, x2)
		Scale(x, -1.7, 3)
		scaleGo(x2, -1.7)
		sameBits(t, "Scale", x, x2)
	}
}

func TestAddRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(1, 40).Draw(t, "width")
		height := rapid.IntRange(1, 20).Draw(t, "height")
		indices := rapid.SliceOfN(rapid.Int64Range(-int64(height), int64(height)-1), 0, 50).Draw(t, "indices")
		a := rapid.SampledFrom([]float32{1, 0.5, -0.3}).Draw(t, "scale")
		table, rows := normal(1, width*height), normal(2, width*len(indices))
		want, given := slices.Clone(table), slices.Clone(indices)
		for r, row := range indices {
			if row < 0 {
				row += int64(height)
			}
			for i := range width {
				want[int(row)*width+i] += float32(a * rows[r*width+i])
			}
		}
		if err := AddRowsScaled(table, width, indices, rows, a); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if math.Float32bits(table[i]) != math.Float32bits(want[i]) {
				t.Fatalf("element %d is %v, want %v", i, table[i], want[i])
			}
		}
		if !slices.Equal(indices, given) {
			t.Fatal("the indices were changed")
		}
	})
}

func TestAddRowsIsItsTwin(t *testing.T) {
	indices := []int64{3, 0, 3, 3, 1}
	for _, width := range []int{1, 5, 16, 33, 256} {
		a, b, rows := normal(1, 4*width), normal(1, 4*width), normal(2, 5*width)
		if err := AddRowsScaled(a, width, indices, rows, 0.1); err != nil {
			t.Fatal(err)
		}
		addRowsGo(b, width, indices, rows, 0.1)
		sameBits(t, "AddRows", a, b)
	}
}

func TestAddRowsOutside(t *testing.T) {
	for _, row := range []int64{4, -5, math.MaxInt64, math.MinInt64} {
		table := make([]float32, 8)
		err := AddRows(table, 2, []int64{0, row}, []float32{1, 1, 1, 1})
		if galley.CodeOf(err) != galley.OutOfRange {
			t.Errorf("row %d: %v", row, err)
		}
		sameBits(t, "table", table, make([]float32, 8))
	}
}

func TestUnequalLengthsPanic(t *testing.T) {
	one, two := make([]float32, 1), make([]float32, 2)
	for name, call := range map[string]func(){
		"AdamW":     func() { AdamW(two, two, one, two, AdamWParams{}, 1) },
		"AddScaled": func() { AddScaled(two, one, 1, 1) },
		"AddRows":   func() { _ = AddRows(two, 2, []int64{0}, one) },
		"width":     func() { _ = AddRows(two, 0, nil, nil) },
		"Parallel":  func() { Parallel(1, 1, 0, func(int, int) {}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s does not panic", name)
				}
			}()
			call()
		}()
	}
}

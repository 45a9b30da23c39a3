package quantize

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"galley"
	"galley/onnx"
)

var grids = []Grid{uint8Grid, int8Grid, int8Symmetric, int7Grid}

// TestAffine holds that a mapping covers its range, that no number of the
// range is off by more than half a step, and that zero is exact.
func TestAffine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := rapid.SampledFrom(grids).Draw(t, "grid")
		symmetric := rapid.Bool().Draw(t, "symmetric")
		number := rapid.Float32Range(-1e6, 1e6)
		r := Range{Low: number.Draw(t, "low"), High: number.Draw(t, "high")}
		if r.Low > r.High {
			r.Low, r.High = r.High, r.Low
		}
		a := g.Fit(r, symmetric)
		if a.Dequantize(a.Quantize(0)) != 0 {
			t.Fatalf("0 becomes %v", a.Dequantize(a.Quantize(0)))
		}
		x := rapid.Float32Range(min(r.Low, 0), max(r.High, 0)).Draw(t, "x")
		// A zero point is rounded: at an end of the range the error may be
		// half a step more than within.
		most := float64(a.Scale) * (1 + 1e-4)
		if c := a.Covers(); x >= c.Low && x <= c.High {
			most = float64(a.Scale) * (.5 + 1e-4)
		}
		if e := math.Abs(float64(a.Dequantize(a.Quantize(x))) - float64(x)); e > most {
			t.Fatalf("%v is off by %v with scale %v", x, e, a.Scale)
		}
		for q := g.Low; q <= g.High; q++ {
			if back := a.Quantize(a.Dequantize(q)); back != q {
				t.Fatalf("%d comes back as %d", q, back)
			}
		}
	})
}

func TestAffineOfNothing(t *testing.T) {
	for _, g := range grids {
		for _, symmetric := range []bool{false, true} {
			for _, r := range []Range{{}, {0, math.SmallestNonzeroFloat32}} {
				a := g.Fit(r, symmetric)
				if a.Scale != 1 || a.Dequantize(a.Quantize(0)) != 0 {
					t.Errorf("%v: %+v", r, a)
				}
			}
		}
		if q := g.Fit(Range{-1, 1}, false).Quantize(float32(math.NaN())); q != g.Low {
			t.Errorf("NaN is %d", q)
		}
	}
}

// TestPack compares with the formula, channel by channel.
func TestPack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dims := rapid.SliceOfN(rapid.Int64Range(1, 6), 2, 4).Draw(t, "dims")
		axis := rapid.IntRange(-1, len(dims)-1).Draw(t, "axis")
		g := rapid.SampledFrom([]Grid{int8Symmetric, int7Grid}).Draw(t, "grid")
		values := rapid.SliceOfN(rapid.Float32Range(-9, 9), int(size(dims)), int(size(dims))).Draw(t, "values")
		p, err := pack(&matrix{dims: dims, values: values}, axis, g)
		if err != nil {
			t.Fatal(err)
		}
		channel := func(i int) int {
			if axis < 0 {
				return 0
			}
			for d := len(dims) - 1; d > axis; d-- {
				i /= int(dims[d])
			}
			return i % int(dims[axis])
		}
		most := make([]float64, len(p.scales))
		for i, x := range values {
			most[channel(i)] = max(most[channel(i)], math.Abs(float64(x)))
		}
		for i, x := range values {
			scale := float64(p.scales[channel(i)])
			if want := most[channel(i)] / float64(g.High); want > 1e-30 && math.Abs(scale/want-1) > 1e-5 {
				t.Fatalf("scale %v, not %v", scale, want)
			}
			if e := math.Abs(float64(int8(p.data[i]))*scale - float64(x)); e > scale*(.5+1e-4) {
				t.Fatalf("%v is off by %v with scale %v", x, e, scale)
			}
		}
	})
}

// TestPackTensors holds that a weight is the same, read block by block or as a
// whole, along any axis.
func TestPackTensors(t *testing.T) {
	dims := []int64{3, 170, 400} // several blocks, the last one short
	values := normal(rand.New(rand.NewPCG(5, 5)), int(size(dims)), 1)
	half := &onnx.Tensor{Name: "half", Type: onnx.Float16, Dims: dims}
	for i, x := range values {
		h := toHalf(x)
		half.Data = binary.LittleEndian.AppendUint16(half.Data, h)
		values[i] = onnx.Float16ToFloat32(h) // what both tensors hold
	}
	float := onnx.NewFloat("float", values, dims...)
	c := newConstants(&onnx.Graph{Initializers: []*onnx.Tensor{half, float}})
	for axis := -1; axis < len(dims); axis++ {
		want, err := pack(&matrix{dims: dims, values: values}, axis, int8Symmetric)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"half", "float"} {
			w, ok := c.matrix(name)
			if !ok {
				t.Fatal(name)
			}
			got, err := pack(w, axis, int8Symmetric)
			if err != nil || w.values != nil || !slices.Equal(got.data, want.data) || !slices.Equal(got.scales, want.scales) {
				t.Errorf("%s, axis %d: %v, or another weight", name, axis, err)
			}
		}
	}
	copy(half.Data[len(half.Data)-2:], []byte{0, 0x7e}) // NaN
	w, _ := c.matrix("half")
	for axis := -1; axis < len(dims); axis++ {
		if _, err := pack(w, axis, int8Symmetric); galley.CodeOf(err) != galley.FailedPrecondition {
			t.Error(err)
		}
	}
	float.Data = float.Data[:len(float.Data)-4]
	if _, ok := c.matrix("float"); ok {
		t.Error("a tensor that lacks a number is read")
	}
}

// TestSaturable compares with products in 16 bits of all activations there
// are, and holds that 7 bits never saturate.
func TestSaturable(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, g := range []Grid{int8Symmetric, int7Grid} {
		p := &packed{dims: []int64{20, 30}, data: make([]byte, 600)}
		for i := range p.data {
			p.data[i] = byte(int8(int32(r.IntN(int(g.High-g.Low)+1)) + g.Low))
		}
		want := int64(0)
		for k := 0; k < 20; k += 2 {
			for n := range 30 {
				a, b := int(int8(p.data[k*30+n])), int(int8(p.data[(k+1)*30+n]))
				sums := []int{0, 255 * a, 255 * b, 255 * (a + b)}
				for _, s := range sums {
					if s != int(int16(s)) {
						want++
						break
					}
				}
			}
		}
		over, pairs := saturable(p)
		if over != want || pairs != 300 || g == int7Grid && over != 0 {
			t.Errorf("%d of %d, not %d", over, pairs, want)
		}
	}
}

// TestHalf compares with the published widening: no neighbour is nearer.
func TestHalf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.Float32().Draw(t, "x")
		h := toHalf(x)
		if got := onnx.Float16ToFloat32(h); math.Abs(float64(x)) >= 65520 {
			if !math.IsInf(float64(got), int(math.Copysign(1, float64(x)))) {
				t.Fatalf("%v becomes %v", x, got)
			}
			return
		}
		e := math.Abs(float64(onnx.Float16ToFloat32(h)) - float64(x))
		for _, near := range []uint16{h - 1, h + 1} {
			v := float64(onnx.Float16ToFloat32(near))
			d := math.Abs(v - float64(x))
			if d < e || d == e && h&1 == 1 && v != 0 {
				t.Fatalf("%v becomes %#x, but %#x is nearer or even", x, h, near)
			}
		}
	})
	for h := range 1 << 16 {
		f := onnx.Float16ToFloat32(uint16(h))
		if got := toHalf(f); f == f && got != uint16(h) {
			t.Fatalf("%#x comes back as %#x", h, got)
		}
	}
}

// TestBlocks unpacks what MatMulNBits reads.
func TestBlocks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, n := rapid.IntRange(1, 80).Draw(t, "k"), rapid.IntRange(1, 5).Draw(t, "n")
		block := rapid.SampledFrom([]int{16, 32, 64}).Draw(t, "block")
		asymmetric := rapid.Bool().Draw(t, "asymmetric")
		values := rapid.SliceOfN(rapid.Float32Range(-3, 5), k*n, k*n).Draw(t, "values")
		b, err := packBlocks(&matrix{dims: []int64{int64(k), int64(n)}, values: values}, block, asymmetric)
		if err != nil {
			t.Fatal(err)
		}
		count := (k + block - 1) / block
		for column := range n {
			for row := range count * block {
				byte8 := b.data[(column*count*block+row)/2]
				q := int(byte8 >> (4 * (row % 2)) & 15)
				zero := 8
				if asymmetric {
					zero = int(b.zeros[column*((count+1)/2)+row/block/2] >> (4 * (row / block % 2)) & 15)
				}
				scale := float64(b.scales[column*count+row/block])
				got := scale * float64(q-zero)
				if row >= k {
					if got != 0 {
						t.Fatalf("beyond the matrix there is %v", got)
					}
					continue
				}
				// The range is narrowed by at most 28 %: what is cut off, and
				// half a step.
				var low, high float64
				for i := row / block * block; i < min((row/block+1)*block, k); i++ {
					low, high = min(low, float64(values[i*n+column])), max(high, float64(values[i*n+column]))
				}
				x := float64(values[row*n+column])
				if e := math.Abs(got - x); e > .28*max(high, -low)+1.01*math.Abs(scale) {
					t.Fatalf("%v becomes %v with scale %v", x, got, scale)
				}
			}
		}
	})
}

// The range of values is that of the plain comparison, whatever their number,
// signs and order, and says of each position whether it is finite.
func TestRangeOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float32Range(-1e30, 1e30), 0, 19).Draw(t, "values")
		var want Range
		for _, x := range values {
			want = Range{min(want.Low, x), max(want.High, x)}
		}
		if got, ok := rangeOf(values); !ok || got != want {
			t.Fatalf("%v: %v %t, want %v", values, got, ok, want)
		}
		for i := range values {
			for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(math.NaN(), -1)} {
				with := slices.Clone(values)
				with[i] = float32(x)
				if _, ok := rangeOf(with); ok {
					t.Fatalf("%v is finite", with)
				}
			}
		}
	})
	if r, ok := rangeOf([]float32{float32(math.Copysign(0, -1)), math.MaxFloat32, -math.SmallestNonzeroFloat32}); !ok || r != (Range{-math.SmallestNonzeroFloat32, math.MaxFloat32}) {
		t.Errorf("%v %t", r, ok)
	}
}

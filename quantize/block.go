package quantize

import (
	"math"

	"galley/onnx"
)

// products8 lets the runtime compute with 8-bit inputs, found block by block at
// each run: hardly less exact than 4-bit weights are, and twice as fast as float.
const products8 = 4

// blockProduct writes a MatMulNBits: weights of 4 bits, in blocks along the
// summed axis that have a scale each.
func (r *rewriter) blockProduct(n *onnx.Node, w *matrix, out string) error {
	k, columns := w.dims[0], w.dims[1]
	blocks := (k + int64(r.o.Block) - 1) / int64(r.o.Block)
	key := w.name + " in blocks"
	names := r.weights[key]
	if names == nil {
		q, err := packBlocks(w, r.o.Block, r.o.Asymmetric)
		if err != nil {
			return err
		}
		names = &written{
			data: r.b.Weight(&onnx.Tensor{Name: r.b.Name(w.name), Type: onnx.Uint8,
				Dims: []int64{columns, blocks, int64(r.o.Block / 2)}, Data: q.data}),
			scale: r.b.Weight(onnx.NewFloat(r.b.Name(w.name+"/scale"), q.scales, columns*blocks)),
		}
		if q.zeros != nil {
			names.zero = r.b.Weight(&onnx.Tensor{Name: r.b.Name(w.name + "/zero"), Type: onnx.Uint8,
				Dims: []int64{int64(len(q.zeros))}, Data: q.zeros})
		}
		r.weights[key] = names
	}
	r.m.Opsets[microsoft] = max(r.m.Opsets[microsoft], microsoftVersion)
	inputs := []string{n.Input(0), names.data, names.scale}
	if names.zero != "" {
		inputs = append(inputs, names.zero)
	}
	r.emit(out, microsoft, "MatMulNBits", map[string]onnx.Attr{
		"K": k, "N": columns, "bits": int64(4), "block_size": int64(r.o.Block),
		"accuracy_level": int64(products8),
	}, inputs...)
	return nil
}

// blocks is a matrix [k, n] in 4 bits, as MatMulNBits reads it: column by
// column, each in blocks of its rows, two weights a byte, the first in the
// low bits. A column's zero points, two a byte, begin at a byte of their own.
type blocks struct {
	data   []byte
	scales []float32 // n * blocks
	zeros  []byte    // nil: 8 throughout
}

// packBlocks quantises a matrix in blocks of rows.
func packBlocks(w *matrix, block int, asymmetric bool) (*blocks, error) {
	k, n := int(w.dims[0]), int(w.dims[1])
	if _, ok := rangeOf(w.all()); !ok {
		return nil, notFinite(w.name)
	}
	count := (k + block - 1) / block
	out := &blocks{data: make([]byte, n*count*block/2), scales: make([]float32, n*count)}
	rowBytes := (count + 1) / 2
	if asymmetric {
		out.zeros = make([]byte, n*rowBytes)
	}
	byColumn := transpose(w.all(), k, n)
	for column := range n {
		for b := range count {
			values := byColumn[column*k+b*block : column*k+min((b+1)*block, k)]
			scale, zero := fitBlock(values, asymmetric)
			out.scales[column*count+b] = scale
			if asymmetric {
				out.zeros[column*rowBytes+b/2] |= byte(zero) << (4 * (b % 2))
			}
			data := out.data[(column*count+b)*block/2:]
			for i, x := range values {
				data[i/2] |= byte(nibble(x, scale, zero)) << (4 * (i % 2))
			}
			for i := len(values); i < block; i++ { // beyond the last row: 0
				data[i/2] |= byte(zero) << (4 * (i % 2))
			}
		}
	}
	return out, nil
}

// shrink is how far the range of a block is narrowed at most, in steps.
const (
	shrinkSteps = 8
	shrinkStep  = 0.04
)

// fitBlock returns the scale and zero point of 4 bits with which a block's
// values have the least squared error, its range narrowed in steps: what is
// cut off costs less than the coarser steps of all others.
func fitBlock(values []float32, asymmetric bool) (scale float32, zero int) {
	r, _ := rangeOf(values)
	// The symmetric grid has one more place on one side: the sign of the
	// scale puts the greatest magnitude there.
	most := r.High
	if -r.Low > r.High {
		most = r.Low
	}
	if r.Low == 0 && r.High == 0 {
		return 1, 8
	}
	best := math.Inf(1)
	for step := range shrinkSteps {
		f := 1 - shrinkStep*float32(step)
		s, z := most*f/-8, 8
		if asymmetric {
			s = (r.High - r.Low) * f / 15
			if s > 0 {
				z = int(min(max(math.RoundToEven(float64(-r.Low*f/s)), 0), 15))
			}
		}
		if s == 0 || 1/s > math.MaxFloat32 || 1/s < -math.MaxFloat32 {
			break
		}
		e := 0.0
		for _, x := range values {
			d := float64(x) - float64(s)*float64(nibble(x, s, z)-z)
			e += d * d
		}
		if e < best {
			best, scale, zero = e, s, z
		}
	}
	if math.IsInf(best, 1) { // too small for a scale
		return 1, 8
	}
	return scale, zero
}

// nibble is the 4-bit integer of x.
func nibble(x, scale float32, zero int) int {
	return int(min(max(math.RoundToEven(float64(x)/float64(scale))+float64(zero), 0), 15))
}

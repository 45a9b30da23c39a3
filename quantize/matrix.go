package quantize

import (
	"encoding/binary"
	"iter"
	"math"

	"galley/onnx"
)

// A matrix is a constant of a graph as numbers, or what computes them from the
// tensor that holds them: all weights as floats beside the model would be most
// of what quantising takes.
type matrix struct {
	name   string // the value that holds it
	dims   []int64
	tensor *onnx.Tensor // of Float or Float16, in the same order; read if values is nil
	values []float32
}

// matrix finds a constant that dims knows.
func (c *constants) matrix(name string) (*matrix, bool) {
	t, transposed := c.trace(name)
	m := &matrix{name: name, dims: c.dims(name), tensor: t}
	if m.dims == nil {
		return nil, false
	}
	if !transposed && (t.Type == onnx.Float || t.Type == onnx.Float16) {
		return m, int64(len(t.Data)) == t.Size()*t.Type.Bits()/8
	}
	values, ok := t.Floats()
	if !ok {
		return nil, false
	}
	m.values = values
	if transposed {
		m.values = transpose(values, int(t.Dims[0]), int(t.Dims[1]))
	}
	return m, true
}

// all returns the numbers, not to be changed.
func (m *matrix) all() []float32 {
	if m.values == nil {
		m.values, _ = m.tensor.Floats()
	}
	return m.values
}

// blockValues is how many numbers blocks reads at a time, at least a unit.
const blockValues = 1 << 16

// blocks gives the numbers in order with the index of each block's first, a
// multiple of unit. A block's memory is that of the one before.
func (m *matrix) blocks(unit int) iter.Seq2[int, []float32] {
	return func(yield func(int, []float32) bool) {
		if m.values != nil {
			yield(0, m.values)
			return
		}
		n := int(m.tensor.Size())
		buffer := make([]float32, min(max(blockValues/unit, 1)*unit, n))
		for at := 0; at < n; at += len(buffer) {
			block := buffer[:min(len(buffer), n-at)]
			if m.tensor.Type == onnx.Float16 {
				for i := range block {
					block[i] = onnx.Float16ToFloat32(binary.LittleEndian.Uint16(m.tensor.Data[2*(at+i):]))
				}
			} else {
				for i := range block {
					block[i] = math.Float32frombits(binary.LittleEndian.Uint32(m.tensor.Data[4*(at+i):]))
				}
			}
			if !yield(at, block) {
				return
			}
		}
	}
}

// transpose turns [rows, columns] into [columns, rows].
func transpose(x []float32, rows, columns int) []float32 {
	out := make([]float32, len(x))
	const tile = 32 // both sides of a tile stay in the cache
	for r0 := 0; r0 < rows; r0 += tile {
		for c0 := 0; c0 < columns; c0 += tile {
			for r := r0; r < min(r0+tile, rows); r++ {
				for c := c0; c < min(c0+tile, columns); c++ {
					out[c*rows+r] = x[r*columns+c]
				}
			}
		}
	}
	return out
}

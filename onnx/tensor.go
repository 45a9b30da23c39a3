package onnx

import (
	"encoding/binary"
	"math"
)

// A Tensor is a constant of a graph: an initializer or an attribute.
//
// Numeric elements lie in Data in little-endian order, row by row, as
// raw_data does; booleans take a byte. Strings lie in Strings.
type Tensor struct {
	Name    string
	Type    DataType
	Dims    []int64
	Data    []byte
	Strings [][]byte
}

// Size returns the number of elements.
func (t *Tensor) Size() int64 {
	n := int64(1)
	for _, d := range t.Dims {
		n *= d
	}
	return n
}

// elements is Size with a check: false if a dimension is negative or the
// product overflows.
func (t *Tensor) elements() (int64, bool) {
	n := int64(1)
	for _, d := range t.Dims {
		p, ok := mulOverflow(n, d)
		if !ok || d < 0 {
			return 0, false
		}
		n = p
	}
	return n, true
}

// Shape returns the tensor's dimensions as a Shape.
func (t *Tensor) Shape() Shape { return Fixed(t.Dims...) }

// NewFloat makes a float tensor; len(values) must be the product of dims.
func NewFloat(name string, values []float32, dims ...int64) *Tensor {
	data := make([]byte, 4*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(v))
	}
	return &Tensor{Name: name, Type: Float, Dims: append([]int64{}, dims...), Data: data}
}

// NewInt64 makes an int64 tensor; len(values) must be the product of dims.
func NewInt64(name string, values []int64, dims ...int64) *Tensor {
	data := make([]byte, 8*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint64(data[8*i:], uint64(v))
	}
	return &Tensor{Name: name, Type: Int64, Dims: append([]int64{}, dims...), Data: data}
}

// Floats returns the elements of a Float, Float16, BFloat16 or Double tensor
// as float32, and whether the tensor has such a type.
func (t *Tensor) Floats() ([]float32, bool) {
	n := int(t.Size())
	out := make([]float32, n)
	switch t.Type {
	case Float:
		if len(t.Data) != 4*n {
			return nil, false
		}
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:]))
		}
	case Double:
		if len(t.Data) != 8*n {
			return nil, false
		}
		for i := range out {
			out[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(t.Data[8*i:])))
		}
	case Float16:
		if len(t.Data) != 2*n {
			return nil, false
		}
		for i := range out {
			out[i] = Float16ToFloat32(binary.LittleEndian.Uint16(t.Data[2*i:]))
		}
	case BFloat16:
		if len(t.Data) != 2*n {
			return nil, false
		}
		for i := range out {
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(t.Data[2*i:])) << 16)
		}
	default:
		return nil, false
	}
	return out, true
}

// Ints returns the elements of an Int64 or Int32 tensor, and whether the
// tensor has such a type.
func (t *Tensor) Ints() ([]int64, bool) {
	n := int(t.Size())
	out := make([]int64, n)
	switch t.Type {
	case Int64:
		if len(t.Data) != 8*n {
			return nil, false
		}
		for i := range out {
			out[i] = int64(binary.LittleEndian.Uint64(t.Data[8*i:]))
		}
	case Int32:
		if len(t.Data) != 4*n {
			return nil, false
		}
		for i := range out {
			out[i] = int64(int32(binary.LittleEndian.Uint32(t.Data[4*i:])))
		}
	default:
		return nil, false
	}
	return out, true
}

// Float16ToFloat32 widens an IEEE 754 half-precision number exactly.
func Float16ToFloat32(h uint16) float32 {
	sign := uint32(h>>15) << 31
	exp := uint32(h>>10) & 0x1f
	frac := uint32(h) & 0x3ff
	switch {
	case exp == 0x1f:
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	case exp == 0: // zero or subnormal: frac * 2^-24
		f := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(sign | math.Float32bits(f))
	default:
		return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
	}
}

package session

import (
	"fmt"
	"math"
	"unsafe"

	"galley/onnx"
)

// A Number is an element type that a tensor's memory can be viewed as.
type Number interface {
	float32 | float64 | int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | bool
}

// A Tensor is typed, shaped memory. The memory is Go's, or the runtime's own
// until Close.
type Tensor struct {
	Type    onnx.DataType
	Shape   []int64
	bytes   []byte   // numeric elements, native order
	strings []string // elements of a String tensor
	release func()
}

// New makes a tensor over data without copying it; len(data) must be the
// product of shape.
func New[T Number](data []T, shape ...int64) (*Tensor, error) {
	n, err := size(shape)
	if err != nil {
		return nil, err
	}
	if n != int64(len(data)) {
		return nil, fmt.Errorf("tensor: %d elements do not fill shape %v", len(data), shape)
	}
	return &Tensor{Type: typeOf[T](), Shape: append([]int64{}, shape...), bytes: asBytes(data)}, nil
}

// Zeros makes a tensor of the given shape in new memory.
func Zeros[T Number](shape ...int64) (*Tensor, error) {
	n, err := size(shape)
	if err != nil {
		return nil, err
	}
	return New(make([]T, n), shape...)
}

// NewStrings makes a String tensor.
func NewStrings(data []string, shape ...int64) (*Tensor, error) {
	n, err := size(shape)
	if err != nil {
		return nil, err
	}
	if n != int64(len(data)) {
		return nil, fmt.Errorf("tensor: %d strings do not fill shape %v", len(data), shape)
	}
	return &Tensor{Type: onnx.String, Shape: append([]int64{}, shape...), strings: data}, nil
}

// FromMemory makes a tensor over memory that someone else owns; release, if
// not nil, is called once by Close.
func FromMemory(t onnx.DataType, shape []int64, bytes []byte, release func()) *Tensor {
	return &Tensor{Type: t, Shape: shape, bytes: bytes, release: release}
}

// Data views a tensor's memory as elements of type T; nil if it holds another
// type.
func Data[T Number](t *Tensor) []T {
	if t == nil || t.Type != typeOf[T]() {
		return nil
	}
	if len(t.bytes) == 0 {
		return []T{}
	}
	var zero T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(t.bytes))), len(t.bytes)/int(unsafe.Sizeof(zero)))
}

// Strings returns the elements of a String tensor.
func (t *Tensor) Strings() []string { return t.strings }

// Bytes returns the memory of a numeric tensor.
func (t *Tensor) Bytes() []byte { return t.bytes }

// Size is the number of elements.
func (t *Tensor) Size() int64 {
	n, _ := size(t.Shape)
	return n
}

// Close gives the memory back to its owner. A second call does nothing.
func (t *Tensor) Close() {
	if t == nil || t.release == nil {
		return
	}
	release := t.release
	t.release, t.bytes = nil, nil
	release()
}

func size(shape []int64) (int64, error) {
	n := int64(1)
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("tensor: shape %v has a negative dimension", shape)
		}
		if d > 0 && n > math.MaxInt64/8/d {
			return 0, fmt.Errorf("tensor: shape %v is too large", shape)
		}
		n *= d
	}
	return n, nil
}

func asBytes[T Number](data []T) []byte {
	if len(data) == 0 {
		return []byte{}
	}
	var zero T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(data))), len(data)*int(unsafe.Sizeof(zero)))
}

func typeOf[T Number]() onnx.DataType {
	var zero T
	switch any(zero).(type) {
	case float32:
		return onnx.Float
	case float64:
		return onnx.Double
	case int8:
		return onnx.Int8
	case int16:
		return onnx.Int16
	case int32:
		return onnx.Int32
	case int64:
		return onnx.Int64
	case uint8:
		return onnx.Uint8
	case uint16:
		return onnx.Uint16
	case uint32:
		return onnx.Uint32
	case uint64:
		return onnx.Uint64
	case bool:
		return onnx.Bool
	default:
		return onnx.Undefined
	}
}

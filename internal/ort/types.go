package ort

import (
	"fmt"

	"galley/onnx"
)

// elements are the types whose tensors can be fed and fetched, by name and
// bits of an element.
var elements = map[onnx.DataType]struct {
	name string
	bits int64
}{
	onnx.Float: {"float", 32}, onnx.Double: {"double", 64}, onnx.Float16: {"float16", 16}, onnx.BFloat16: {"bfloat16", 16},
	onnx.Int8: {"int8", 8}, onnx.Int16: {"int16", 16}, onnx.Int32: {"int32", 32}, onnx.Int64: {"int64", 64},
	onnx.Uint8: {"uint8", 8}, onnx.Uint16: {"uint16", 16}, onnx.Uint32: {"uint32", 32}, onnx.Uint64: {"uint64", 64},
	onnx.Int4: {"int4", 4}, onnx.Uint4: {"uint4", 4}, onnx.Bool: {"bool", 8}, onnx.String: {"string", 0},
}

// typeName names an element type as the published type strings do.
func typeName(t onnx.DataType) string {
	if e, ok := elements[t]; ok {
		return e.name
	}
	return fmt.Sprintf("type %d", int32(t))
}

// byteSize is how many bytes n numeric elements take, elements of less than a
// byte packed; false for strings and unknown types.
func byteSize(t onnx.DataType, n int64) (int64, bool) {
	e, ok := elements[t]
	if !ok || e.bits == 0 {
		return 0, false
	}
	if e.bits < 8 {
		return (n*e.bits + 7) / 8, true
	}
	return n * (e.bits / 8), true
}

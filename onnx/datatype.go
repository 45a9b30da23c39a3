package onnx

import "fmt"

// Element types that are stored and passed on, but not computed with here.
const (
	Complex64      DataType = 14
	Complex128     DataType = 15
	Float8E4M3FN   DataType = 17
	Float8E4M3FNUZ DataType = 18
	Float8E5M2     DataType = 19
	Float8E5M2FNUZ DataType = 20
	Float4E2M1     DataType = 23
	Float8E8M0     DataType = 24
	Uint2          DataType = 25
	Int2           DataType = 26
)

// dataTypes has the published name of each element type and its width in
// bits; strings have no width.
var dataTypes = map[DataType]struct {
	name string
	bits int64
}{
	Float: {"float", 32}, Uint8: {"uint8", 8}, Int8: {"int8", 8}, Uint16: {"uint16", 16},
	Int16: {"int16", 16}, Int32: {"int32", 32}, Int64: {"int64", 64}, String: {"string", 0},
	Bool: {"bool", 8}, Float16: {"float16", 16}, Double: {"double", 64}, Uint32: {"uint32", 32},
	Uint64: {"uint64", 64}, Complex64: {"complex64", 64}, Complex128: {"complex128", 128},
	BFloat16: {"bfloat16", 16}, Float8E4M3FN: {"float8e4m3fn", 8}, Float8E4M3FNUZ: {"float8e4m3fnuz", 8},
	Float8E5M2: {"float8e5m2", 8}, Float8E5M2FNUZ: {"float8e5m2fnuz", 8}, Uint4: {"uint4", 4},
	Int4: {"int4", 4}, Float4E2M1: {"float4e2m1", 4}, Float8E8M0: {"float8e8m0", 8},
	Uint2: {"uint2", 2}, Int2: {"int2", 2},
}

// String returns the published name in lower case: "float", "int64".
func (t DataType) String() string {
	if d, ok := dataTypes[t]; ok {
		return d.name
	}
	if t == Undefined {
		return "undefined"
	}
	return fmt.Sprintf("type %d", int32(t))
}

// Valid reports whether t is a published element type.
func (t DataType) Valid() bool { _, ok := dataTypes[t]; return ok }

// Bits is the width of an element; 0 for strings and unknown types. Elements
// narrower than a byte are packed, the first in the lowest bits.
func (t DataType) Bits() int64 { return dataTypes[t].bits }

// IsFloat reports whether t is a floating-point type that operators compute
// in: float, double, float16 or bfloat16.
func (t DataType) IsFloat() bool {
	return t == Float || t == Double || t == Float16 || t == BFloat16
}

// bytesFor returns how many bytes n elements take.
func (t DataType) bytesFor(n int64) int64 {
	if bits := t.Bits(); bits < 8 {
		per := 8 / max(bits, 1)
		return (n + per - 1) / per
	}
	return n * t.Bits() / 8
}

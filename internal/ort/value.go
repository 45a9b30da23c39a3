//go:build cgo && !windows

package ort

// #include "api.h"
import "C"

import (
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"galley"
	"galley/onnx"
	"galley/onnx/session"
)

// A value is a tensor as the runtime sees it. Numbers stay where they are,
// pinned until release; strings are copied.
type value struct {
	native *C.OrtValue
	pinned runtime.Pinner
}

// newValue makes a value of t; subject names it in errors.
func newValue(t *session.Tensor, subject string) (*value, error) {
	if t == nil {
		return nil, galley.Errorf(galley.InvalidArgument, subject, "the tensor is missing")
	}
	if len(t.Shape) > C.api_max_rank {
		return nil, galley.Errorf(galley.InvalidArgument, subject, "rank %d, want at most %d", len(t.Shape), C.api_max_rank)
	}
	v := &value{}
	shape := (*C.int64_t)(unsafe.Pointer(unsafe.SliceData(t.Shape)))
	rank := C.size_t(len(t.Shape))
	if t.Type == onnx.String {
		if err := v.fillStrings(t.Strings(), t.Size(), shape, rank, subject); err != nil {
			return nil, err
		}
		return v, nil
	}
	want, ok := byteSize(t.Type, t.Size())
	if !ok {
		return nil, galley.Errorf(galley.Unimplemented, subject, "element type %s", t.Type)
	}
	data := t.Bytes()
	if int64(len(data)) != want {
		return nil, galley.Errorf(galley.InvalidArgument, subject,
			"%d bytes do not fill %s %v, which takes %d", len(data), t.Type, t.Shape, want)
	}
	var p unsafe.Pointer
	if len(data) > 0 {
		p = unsafe.Pointer(unsafe.SliceData(data))
		v.pinned.Pin(p)
	}
	status := C.api_value_over(p, C.size_t(len(data)), shape, rank, C.int(t.Type), &v.native)
	if err := check(status, subject, "tensor"); err != nil {
		v.pinned.Unpin()
		return nil, err
	}
	return v, nil
}

// fillStrings makes v a tensor with copies of the strings.
func (v *value) fillStrings(strings []string, size int64, shape *C.int64_t, rank C.size_t, subject string) error {
	if int64(len(strings)) != size {
		return galley.Errorf(galley.InvalidArgument, subject, "%d strings do not fill a tensor of %d", len(strings), size)
	}
	total := 0
	for _, s := range strings {
		total += len(s)
	}
	text := make([]byte, 0, total+1)
	lengths := make([]C.size_t, len(strings)+1)
	for i, s := range strings {
		text = append(text, s...)
		lengths[i] = C.size_t(len(s))
	}
	status := C.api_value_strings((*C.char)(unsafe.Pointer(unsafe.SliceData(text))), &lengths[0],
		C.size_t(len(strings)), shape, rank, &v.native)
	return check(status, subject, "string tensor")
}

// release gives the value back and unpins its memory.
func (v *value) release() {
	if v == nil || v.native == nil {
		return
	}
	C.api_value_release(v.native)
	v.native = nil
	v.pinned.Unpin()
}

// infos are of *C.api_info, which is large.
var infos = sync.Pool{New: func() any { return new(C.api_info) }}

// wrap makes a tensor of a value that the runtime allocated; the tensor owns
// the value from then on, and its Close releases it. On an error the value
// stays the caller's.
func wrap(native *C.OrtValue, subject string) (*session.Tensor, error) {
	info := infos.Get().(*C.api_info)
	defer infos.Put(info)
	if err := check(C.api_value_info(native, info), subject, "output"); err != nil {
		return nil, err
	}
	if info._type == 0 || info.rank < 0 {
		return nil, galley.Errorf(galley.Unimplemented, subject, "the output is not a tensor").
			WithRemedy("rewrite the graph so that its outputs are tensors")
	}
	dtype := onnx.DataType(info._type)
	shape := make([]int64, info.rank)
	size := int64(1)
	for i := range shape {
		shape[i] = int64(info.dims[i])
		size *= shape[i]
	}
	if dtype == onnx.String {
		strings, err := readStrings(native, size, subject)
		if err != nil {
			return nil, err
		}
		t, err := session.NewStrings(strings, shape...)
		if err != nil {
			return nil, galley.Errorf(galley.Internal, subject, "%w", err)
		}
		C.api_value_release(native)
		return t, nil
	}
	n, ok := byteSize(dtype, size)
	if !ok {
		return nil, galley.Errorf(galley.Unimplemented, subject, "element type %s", dtype)
	}
	data := []byte{}
	if n > 0 {
		var p unsafe.Pointer
		if err := check(C.api_value_data(native, &p), subject, "output"); err != nil {
			return nil, err
		}
		data = unsafe.Slice((*byte)(p), n)
	}
	return session.FromMemory(dtype, shape, data, func() { C.api_value_release(native) }), nil
}

// readStrings copies the elements of a string tensor.
func readStrings(native *C.OrtValue, size int64, subject string) ([]string, error) {
	out := make([]string, size)
	if size == 0 {
		return out, nil
	}
	var total C.size_t
	if err := check(C.api_string_bytes(native, &total), subject, "string output"); err != nil {
		return nil, err
	}
	text := make([]byte, int(total)+1)
	offsets := make([]C.size_t, size)
	status := C.api_string_content(native, unsafe.Pointer(&text[0]), total, &offsets[0], C.size_t(size))
	if err := check(status, subject, "string output"); err != nil {
		return nil, err
	}
	for i := range out {
		end := total
		if i+1 < len(offsets) {
			end = offsets[i+1]
		}
		out[i] = string(text[offsets[i]:end])
	}
	return out, nil
}

// signature reads the name and type of a session's i-th input or output.
func signature(s *C.OrtSession, output bool, i int, subject string) (onnx.Value, error) {
	side := C.int(0)
	if output {
		side = 1
	}
	var info C.api_info
	defer C.api_info_release(&info)
	if err := check(C.api_session_info(s, side, C.size_t(i), &info), subject, "signature"); err != nil {
		return onnx.Value{}, err
	}
	v := onnx.Value{Name: C.GoString(info.name), Type: onnx.DataType(info._type)}
	if info._type == 0 || info.rank < 0 {
		return v, nil
	}
	v.Shape = make(onnx.Shape, info.rank)
	for d := range v.Shape {
		v.Shape[d] = onnx.Dim{Size: int64(info.dims[d])}
		if info.dims[d] < 0 {
			v.Shape[d] = onnx.Dim{Size: -1}
			if info.symbols[d] != nil {
				v.Shape[d].Symbol = C.GoString(info.symbols[d])
			}
		}
	}
	return v, nil
}

// matches checks a tensor against the declared input or output it is for.
func matches(t *session.Tensor, want onnx.Value, subject string) error {
	if t == nil {
		return galley.Errorf(galley.InvalidArgument, subject, "the tensor is missing")
	}
	ok := t.Type == want.Type && (want.Shape == nil || len(t.Shape) == len(want.Shape))
	for i := 0; ok && i < len(want.Shape); i++ {
		ok = want.Shape[i].Size < 0 || want.Shape[i].Size == t.Shape[i]
	}
	if !ok {
		return galley.Errorf(galley.InvalidArgument, subject, "got %s %v, want %s %s",
			t.Type, t.Shape, want.Type, want.Shape)
	}
	return nil
}

// of names an input or output of a model in errors.
func of(kind, name, label string) string { return fmt.Sprintf("%s %q of %s", kind, name, label) }

// byteSize is how many bytes n numeric elements take; false for strings and
// unknown types.
func byteSize(t onnx.DataType, n int64) (int64, bool) {
	bits := t.Bits()
	if bits == 0 {
		return 0, false
	}
	if bits < 8 { // packed, none across a byte's end
		per := 8 / bits
		return (n + per - 1) / per, true
	}
	return n * (bits / 8), true
}

package rpc

import (
	"encoding/binary"
	"slices"
	"unicode/utf8"
	"unsafe"

	inferencepb "galley/api/inference/v2"

	"galley"
	"galley/onnx"
	"galley/onnx/session"
	"galley/task"
)

// Bounds of a tensor of a request.
const (
	maxElements = 64 << 20
	maxRank     = 32
)

// inputTensors reads the tensors of a request.
func inputTensors(r *inferencepb.ModelInferRequest) (map[string]*session.Tensor, error) {
	raw := r.GetRawInputContents()
	if len(raw) > 0 && len(raw) != len(r.GetInputs()) {
		return nil, galley.Errorf(galley.InvalidArgument, "raw_input_contents", "has %d entries for %d inputs", len(raw), len(r.GetInputs())).
			WithRemedy("send one entry an input, or use contents for all")
	}
	inputs := make(map[string]*session.Tensor, len(r.GetInputs()))
	for i, in := range r.GetInputs() {
		if _, twice := inputs[in.GetName()]; twice {
			return nil, galley.Errorf(galley.InvalidArgument, "inputs", "input %q is given twice", printable(in.GetName()))
		}
		var bytes []byte
		if len(raw) > 0 {
			if in.GetContents() != nil {
				return nil, galley.Errorf(galley.InvalidArgument, in.GetName(), "has both contents and raw_input_contents").
					WithRemedy("send one of them")
			}
			bytes = raw[i]
		}
		t, err := inputTensor(in, bytes, len(raw) > 0)
		if err != nil {
			return nil, err
		}
		inputs[in.GetName()] = t
	}
	return inputs, nil
}

// layout checks an input's datatype and shape, and counts its elements.
func layout(name, datatype string, shape []int64) (t onnx.DataType, n int64, err error) {
	t, ok := task.ParseDatatype(datatype)
	if !ok {
		return t, 0, galley.Errorf(galley.InvalidArgument, name, "has the unknown datatype %q", printable(datatype)).
			WithRemedy("use one of BOOL, UINT8 to UINT64, INT8 to INT64, FP16, BF16, FP32, FP64, BYTES")
	}
	if len(shape) > maxRank {
		return t, 0, galley.Errorf(galley.InvalidArgument, name, "has a shape of %d dimensions", len(shape)).
			WithRemedy("send at most %d", maxRank)
	}
	n = 1
	for _, d := range shape {
		if d < 0 || d > maxElements || n*d > maxElements {
			return t, 0, galley.Errorf(galley.InvalidArgument, name, "has the impossible shape %v", shape).
				WithRemedy("send sizes of 0 and more, %d elements at most", maxElements)
		}
		n *= d
	}
	return t, n, nil
}

func inputTensor(in *inferencepb.ModelInferRequest_InferInputTensor, raw []byte, isRaw bool) (*session.Tensor, error) {
	t, n, err := layout(in.GetName(), in.GetDatatype(), in.GetShape())
	if err != nil {
		return nil, err
	}
	count := func(got int) error {
		if int64(got) != n {
			return galley.Errorf(galley.InvalidArgument, in.GetName(), "has %d elements for the shape %v, which has %d", got, in.GetShape(), n)
		}
		return nil
	}
	if t == onnx.String {
		texts := typedStrings(in.GetContents())
		if isRaw {
			if texts, err = rawStrings(in.GetName(), raw, n); err != nil {
				return nil, err
			}
		}
		if err := count(len(texts)); err != nil {
			return nil, err
		}
		return session.NewStrings(texts, in.GetShape()...)
	}
	if isRaw {
		width := t.Bits() / 8
		if int64(len(raw)) != n*width {
			return nil, galley.Errorf(galley.InvalidArgument, in.GetName(), "has %d bytes for the shape %v of %s, which takes %d",
				len(raw), in.GetShape(), in.GetDatatype(), n*width)
		}
		if t == onnx.Bool && slices.ContainsFunc(raw, func(b byte) bool { return b > 1 }) {
			return nil, galley.Errorf(galley.InvalidArgument, in.GetName(), "has a BOOL that is neither 0 nor 1")
		}
		return session.FromMemory(t, in.GetShape(), aligned(raw), nil), nil
	}
	return contentsTensor(in, t, count)
}

// aligned returns bytes that lie where elements of eight bytes can lie: a
// message's may lie anywhere, and are copied then.
func aligned(raw []byte) []byte {
	if uintptr(unsafe.Pointer(unsafe.SliceData(raw)))%8 == 0 {
		return raw
	}
	words := make([]uint64, (len(raw)+7)/8)
	t, err := session.New(words, int64(len(words)))
	if err != nil {
		return nil
	}
	out := t.Bytes()[:len(raw)]
	copy(out, raw)
	return out
}

// contentsTensor reads the typed contents, which widen small integers.
func contentsTensor(in *inferencepb.ModelInferRequest_InferInputTensor, t onnx.DataType, count func(int) error) (*session.Tensor, error) {
	c, shape := in.GetContents(), in.GetShape()
	switch t {
	case onnx.Float:
		return filled(c.GetFp32Contents(), shape, count)
	case onnx.Double:
		return filled(c.GetFp64Contents(), shape, count)
	case onnx.Int64:
		return filled(c.GetInt64Contents(), shape, count)
	case onnx.Uint64:
		return filled(c.GetUint64Contents(), shape, count)
	case onnx.Int32:
		return filled(c.GetIntContents(), shape, count)
	case onnx.Uint32:
		return filled(c.GetUintContents(), shape, count)
	case onnx.Bool:
		return filled(c.GetBoolContents(), shape, count)
	case onnx.Int8:
		return narrowed[int8](in, c.GetIntContents(), count)
	case onnx.Int16:
		return narrowed[int16](in, c.GetIntContents(), count)
	case onnx.Uint8:
		return narrowed[uint8](in, c.GetUintContents(), count)
	case onnx.Uint16:
		return narrowed[uint16](in, c.GetUintContents(), count)
	default:
		return nil, galley.Errorf(galley.InvalidArgument, in.GetName(), "%s has no typed contents", in.GetDatatype()).
			WithRemedy("send it in raw_input_contents")
	}
}

func filled[T session.Number](data []T, shape []int64, count func(int) error) (*session.Tensor, error) {
	if err := count(len(data)); err != nil {
		return nil, err
	}
	return session.New(data, shape...)
}

func narrowed[T int8 | int16 | uint8 | uint16, W int32 | uint32](in *inferencepb.ModelInferRequest_InferInputTensor, wide []W, count func(int) error) (*session.Tensor, error) {
	data := make([]T, len(wide))
	for i, v := range wide {
		if data[i] = T(v); W(data[i]) != v {
			return nil, galley.Errorf(galley.InvalidArgument, in.GetName(), "%d does not fit %s", v, in.GetDatatype())
		}
	}
	return filled(data, in.GetShape(), count)
}

// typedStrings reads the typed contents of a BYTES tensor.
func typedStrings(c *inferencepb.InferTensorContents) []string {
	texts := make([]string, len(c.GetBytesContents()))
	for i, b := range c.GetBytesContents() {
		texts[i] = string(b)
	}
	return texts
}

// rawStrings reads the raw contents of a BYTES tensor of at most n elements.
func rawStrings(name string, raw []byte, n int64) ([]string, error) {
	var texts []string
	for len(raw) > 0 {
		if len(raw) < 4 || uint64(binary.LittleEndian.Uint32(raw)) > uint64(len(raw)-4) || int64(len(texts)) == n {
			return nil, galley.Errorf(galley.InvalidArgument, name, "its bytes are not %d elements of a length and that many bytes", n)
		}
		size := binary.LittleEndian.Uint32(raw)
		texts = append(texts, string(raw[4:4+size]))
		raw = raw[4+size:]
	}
	return texts, nil
}

// rawBytes writes a tensor's elements as the protocol's raw contents.
func rawBytes(t *session.Tensor) []byte {
	if t.Type != onnx.String {
		return append([]byte(nil), t.Bytes()...)
	}
	var out []byte
	for _, s := range t.Strings() {
		out = binary.LittleEndian.AppendUint32(out, uint32(len(s)))
		out = append(out, s...)
	}
	return out
}

// printable shortens text of a request for a message.
func printable(s string) string {
	const most = 60
	if !utf8.ValidString(s) {
		return "(not UTF-8)"
	}
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

package rpc

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"

	"galley"
	"galley/onnx"
)

// parseElements reads a tensor's data, an array that encoding/json has found
// well-formed, into raw contents.
func parseElements(name, datatype string, shape []int64, data []byte) ([]byte, error) {
	t, n, err := layout(name, datatype, shape)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 || data[0] != '[' {
		return nil, galley.Errorf(galley.InvalidArgument, name, "its data is not an array").
			WithRemedy("send its elements in an array, also if there is one only")
	}
	d := &elements{name: name, datatype: datatype, kind: t, shape: shape, n: n}
	// A number takes a character and a comma at least; texts are longer.
	d.raw = make([]byte, 0, min(n, int64(len(data)/2+1))*t.Bits()/8)
	inner := bytes.TrimLeft(data[1:], jsonSpace)
	d.nested = len(inner) > 0 && inner[0] == '['
	for len(data) > 0 && err == nil {
		data, err = d.next(data)
	}
	if err == nil && d.got != n {
		err = galley.Errorf(galley.InvalidArgument, name, "has %d elements for the shape %v, which has %d", d.got, shape, n)
	}
	return d.raw, err
}

const jsonSpace = " \t\r\n"

// elements walks through a tensor's data.
type elements struct {
	name, datatype string
	kind           onnx.DataType
	shape          []int64
	n              int64 // elements that the shape has

	nested bool    // data has the shape's own arrays, else it is flat
	open   []int64 // items so far of the arrays around the place
	got    int64
	raw    []byte
}

// next passes one bracket, comma or element.
func (d *elements) next(data []byte) (rest []byte, err error) {
	switch c := data[0]; c {
	case ' ', '\t', '\r', '\n', ',':
		return data[1:], nil
	case '[':
		if d.count(); len(d.open) == d.levels() {
			return nil, d.misshapen()
		}
		d.open = append(d.open, 0)
		return data[1:], nil
	case ']':
		last := len(d.open) - 1
		if d.nested && d.open[last] != d.shape[last] {
			return nil, d.misshapen()
		}
		d.open = d.open[:last]
		return data[1:], nil
	}
	end := scalarEnd(data)
	if d.count(); len(d.open) != d.levels() {
		return nil, d.misshapen()
	}
	if d.got++; d.got > d.n {
		return nil, galley.Errorf(galley.InvalidArgument, d.name, "has more than the %d elements of the shape %v", d.n, d.shape)
	}
	return data[end:], d.element(data[:end])
}

// count notes an item of the innermost array.
func (d *elements) count() {
	if n := len(d.open); n > 0 {
		d.open[n-1]++
	}
}

// levels is how deep the elements lie.
func (d *elements) levels() int {
	if d.nested {
		return len(d.shape)
	}
	return 1
}

func (d *elements) misshapen() error {
	return galley.Errorf(galley.InvalidArgument, d.name, "its data is nested otherwise than its shape %v says", d.shape).
		WithRemedy("send the elements in one flat array, or nested as the shape says")
}

// scalarEnd is the length of the string, number or word that data begins
// with.
func scalarEnd(data []byte) int {
	if data[0] != '"' {
		if i := bytes.IndexAny(data, ",]"+jsonSpace); i >= 0 {
			return i
		}
		return len(data)
	}
	for i := 1; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(data)
}

// element appends one element's bytes.
func (d *elements) element(token []byte) (err error) {
	order := binary.LittleEndian
	var (
		i int64
		u uint64
		x float64
	)
	switch d.kind {
	case onnx.String:
		return d.text(token)
	case onnx.Bool:
		switch string(token) {
		case "true":
			d.raw = append(d.raw, 1)
		case "false":
			d.raw = append(d.raw, 0)
		default:
			return d.unfit(token)
		}
		return nil
	case onnx.Int8, onnx.Int16, onnx.Int32, onnx.Int64:
		i, err = strconv.ParseInt(string(token), 10, int(d.kind.Bits()))
		u = uint64(i)
	case onnx.Uint8, onnx.Uint16, onnx.Uint32, onnx.Uint64:
		u, err = strconv.ParseUint(string(token), 10, int(d.kind.Bits()))
	case onnx.Double:
		x, err = strconv.ParseFloat(string(token), 64)
		u = math.Float64bits(x)
	default:
		x, err = strconv.ParseFloat(string(token), 32)
		switch d.kind {
		case onnx.Float16:
			u = uint64(float16Bits(float32(x)))
			if u&0x7fff == 0x7c00 {
				return d.unfit(token)
			}
		case onnx.BFloat16:
			u = uint64(bfloat16Bits(float32(x)))
			if u&0x7fff == 0x7f80 {
				return d.unfit(token)
			}
		default:
			u = uint64(math.Float32bits(float32(x)))
		}
	}
	if err != nil {
		return d.unfit(token)
	}
	switch d.kind.Bits() {
	case 8:
		d.raw = append(d.raw, byte(u))
	case 16:
		d.raw = order.AppendUint16(d.raw, uint16(u))
	case 32:
		d.raw = order.AppendUint32(d.raw, uint32(u))
	default:
		d.raw = order.AppendUint64(d.raw, u)
	}
	return nil
}

// text appends a BYTES element.
func (d *elements) text(token []byte) error {
	if token[0] != '"' {
		return d.unfit(token)
	}
	s := token[1 : len(token)-1]
	if bytes.IndexByte(s, '\\') >= 0 {
		var plain string
		if err := json.Unmarshal(token, &plain); err != nil {
			return d.unfit(token)
		}
		s = []byte(plain)
	}
	d.raw = binary.LittleEndian.AppendUint32(d.raw, uint32(len(s)))
	d.raw = append(d.raw, s...)
	return nil
}

func (d *elements) unfit(token []byte) error {
	return galley.Errorf(galley.InvalidArgument, d.name, "element %d, %s, is not a value of %s", d.got, printable(string(token)), d.datatype)
}

// elementsJSON writes raw contents as a flat JSON array.
func elementsJSON(name, datatype string, raw []byte) (json.RawMessage, error) {
	t, _, err := layout(name, datatype, nil)
	if err != nil {
		return nil, unwritable(name, "a type of its own")
	}
	if t == onnx.String {
		return textsJSON(name, raw)
	}
	width := int(t.Bits() / 8)
	out := make([]byte, 1, len(raw)/width*8+2)
	out[0] = '['
	for i := 0; i < len(raw); i += width {
		if i > 0 {
			out = append(out, ',')
		}
		var ok bool
		if out, ok = appendElement(out, t, raw[i:i+width]); !ok {
			return nil, unwritable(name, "NaN or an infinity")
		}
	}
	return append(out, ']'), nil
}

// appendElement writes one number or truth value.
func appendElement(out []byte, t onnx.DataType, b []byte) ([]byte, bool) {
	order := binary.LittleEndian
	switch t {
	case onnx.Bool:
		return strconv.AppendBool(out, b[0] != 0), true
	case onnx.Int8:
		return strconv.AppendInt(out, int64(int8(b[0])), 10), true
	case onnx.Int16:
		return strconv.AppendInt(out, int64(int16(order.Uint16(b))), 10), true
	case onnx.Int32:
		return strconv.AppendInt(out, int64(int32(order.Uint32(b))), 10), true
	case onnx.Int64:
		return strconv.AppendInt(out, int64(order.Uint64(b)), 10), true
	case onnx.Uint8:
		return strconv.AppendUint(out, uint64(b[0]), 10), true
	case onnx.Uint16:
		return strconv.AppendUint(out, uint64(order.Uint16(b)), 10), true
	case onnx.Uint32:
		return strconv.AppendUint(out, uint64(order.Uint32(b)), 10), true
	case onnx.Uint64:
		return strconv.AppendUint(out, order.Uint64(b), 10), true
	case onnx.Float16:
		return appendFloat(out, float64(onnx.Float16ToFloat32(order.Uint16(b))), 32)
	case onnx.BFloat16:
		return appendFloat(out, float64(math.Float32frombits(uint32(order.Uint16(b))<<16)), 32)
	case onnx.Double:
		return appendFloat(out, math.Float64frombits(order.Uint64(b)), 64)
	default:
		return appendFloat(out, float64(math.Float32frombits(order.Uint32(b))), 32)
	}
}

// appendFloat writes the shortest digits that read back as x; false for NaN
// and the infinities.
func appendFloat(out []byte, x float64, bits int) ([]byte, bool) {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return out, false
	}
	return strconv.AppendFloat(out, x, 'g', -1, bits), true
}

// textsJSON writes raw contents of BYTES as strings.
func textsJSON(name string, raw []byte) (json.RawMessage, error) {
	texts, err := rawStrings(name, raw, maxElements)
	if err != nil {
		return nil, err
	}
	for _, s := range texts {
		if !utf8.ValidString(s) {
			return nil, unwritable(name, "bytes that are not UTF-8")
		}
	}
	if len(texts) == 0 {
		return json.RawMessage("[]"), nil
	}
	return json.Marshal(texts)
}

func unwritable(name, what string) error {
	return galley.Errorf(galley.FailedPrecondition, name, "the output has %s, which JSON has no form for", what).
		WithRemedy("ask for other outputs by name, or over gRPC")
}

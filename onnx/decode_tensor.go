package onnx

import (
	"encoding/binary"
	"math"

	"galley"
	onnxpb "galley/api/onnx/v1"
)

// tensor takes over a tensor; its elements end up as bytes, wherever they lie
// in the message. where names the tensor in errors.
func (d *decoder) tensor(p *onnxpb.TensorProto, where string) (*Tensor, error) {
	if p.Segment != nil {
		return nil, unsupported(where, "is stored in segments", "store it whole")
	}
	t := &Tensor{Name: p.GetName(), Type: DataType(p.GetDataType()), Dims: append([]int64{}, p.Dims...)}
	if !t.Type.Valid() {
		return nil, invalid(where, "has the unknown element type %d", p.GetDataType())
	}
	if len(t.Dims) > maxRank {
		return nil, invalid(where, "has %d dimensions, more than %d", len(t.Dims), maxRank)
	}
	for _, size := range t.Dims {
		if size < 0 {
			return nil, invalid(where, "has the negative dimension %d", size)
		}
	}
	n, ok := t.elements()
	if ok {
		_, ok = mulOverflow(n, max(t.Type.Bits(), 1))
	}
	if !ok {
		return nil, invalid(where, "dimensions %v overflow", t.Dims)
	}
	if d.bytes += t.Type.bytesFor(n); d.bytes > d.limits.TensorBytes {
		return nil, galley.Errorf(galley.ResourceExhausted, where,
			"with dimensions %v, tensors take more than %d bytes", t.Dims, d.limits.TensorBytes)
	}
	var err error
	switch {
	case p.GetDataLocation() == onnxpb.TensorProto_EXTERNAL:
		t.Data, err = d.externalTensor(p, t, n, where)
	case t.Type == String:
		t.Strings = p.StringData
		if int64(len(t.Strings)) != n {
			err = invalid(where, "has %d strings; dimensions %v ask for %d", len(t.Strings), t.Dims, n)
		}
	case p.RawData != nil:
		t.Data = p.RawData
	default:
		t.Data, err = typedData(p, t.Type, where)
	}
	if err != nil {
		return nil, err
	}
	if want := t.Type.bytesFor(n); t.Type != String && int64(len(t.Data)) != want {
		return nil, invalid(where, "has %d bytes; %v of dimensions %v takes %d", len(t.Data), t.Type, t.Dims, want)
	}
	p.RawData, p.FloatData, p.Int32Data, p.Int64Data, p.DoubleData, p.Uint64Data = nil, nil, nil, nil, nil, nil
	return t, nil
}

func (d *decoder) externalTensor(p *onnxpb.TensorProto, t *Tensor, n int64, where string) ([]byte, error) {
	if t.Type == String {
		return nil, invalid(where, "holds strings, which cannot lie in external data")
	}
	if p.RawData != nil {
		return nil, invalid(where, "has data of its own and external data")
	}
	if d.external == nil {
		return nil, galley.Errorf(galley.FailedPrecondition, where, "its data lies in another file").
			WithRemedy("read the model from its folder, or export it with all data in one file")
	}
	loc, err := parseLocation(p.ExternalData, where)
	if err != nil {
		return nil, err
	}
	return d.external.read(loc, t.Type.bytesFor(n), where)
}

// typedData turns the typed field that elements of type t are stored in into
// little-endian bytes. Complex numbers alternate real and imaginary parts.
func typedData(p *onnxpb.TensorProto, t DataType, where string) ([]byte, error) {
	var out []byte
	switch t {
	case Float, Complex64:
		out = make([]byte, 0, 4*len(p.FloatData))
		for _, v := range p.FloatData {
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
		}
	case Double, Complex128:
		out = make([]byte, 0, 8*len(p.DoubleData))
		for _, v := range p.DoubleData {
			out = binary.LittleEndian.AppendUint64(out, math.Float64bits(v))
		}
	case Int64:
		out = make([]byte, 0, 8*len(p.Int64Data))
		for _, v := range p.Int64Data {
			out = binary.LittleEndian.AppendUint64(out, uint64(v))
		}
	case Uint64:
		out = make([]byte, 0, 8*len(p.Uint64Data))
		for _, v := range p.Uint64Data {
			out = binary.LittleEndian.AppendUint64(out, v)
		}
	case Uint32:
		out = make([]byte, 0, 4*len(p.Uint64Data))
		for _, v := range p.Uint64Data {
			if v > math.MaxUint32 {
				return nil, invalid(where, "%d does not fit %v", v, t)
			}
			out = binary.LittleEndian.AppendUint32(out, uint32(v))
		}
	default:
		return int32Data(p.Int32Data, t, where)
	}
	return out, nil
}

// int32Data narrows int32_data, which holds all types of up to 32 bits that
// have no field of their own; elements narrower than a byte come packed.
func int32Data(values []int32, t DataType, where string) ([]byte, error) {
	width := max(t.Bits()/8, 1)
	low, high := int64(0), int64(1)<<(8*width)-1
	switch t {
	case Int8, Int16, Int32:
		low, high = -(high+1)/2, high/2
	case Bool:
		high = 1
	case Int4, Int2, Float8E8M0, Float8E4M3FN, Float8E4M3FNUZ, Float8E5M2, Float8E5M2FNUZ, Float4E2M1:
		low = -128 // some writers sign-extend the byte
	}
	out := make([]byte, 0, int(width)*len(values))
	for _, v := range values {
		if int64(v) < low || int64(v) > high {
			return nil, invalid(where, "%d does not fit %v", v, t)
		}
		switch width {
		case 1:
			out = append(out, byte(v))
		case 2:
			out = binary.LittleEndian.AppendUint16(out, uint16(v))
		default:
			out = binary.LittleEndian.AppendUint32(out, uint32(v))
		}
	}
	return out, nil
}

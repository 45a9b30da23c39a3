package onnx

import (
	"encoding/binary"
	"math"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	onnxpb "galley/api/onnx/v1"
)

// TestTypedData holds that elements in typed fields become the same bytes as
// in raw_data.
func TestTypedData(t *testing.T) {
	le16 := func(v ...uint16) (b []byte) {
		for _, x := range v {
			b = binary.LittleEndian.AppendUint16(b, x)
		}
		return b
	}
	le32 := func(v ...uint32) (b []byte) {
		for _, x := range v {
			b = binary.LittleEndian.AppendUint32(b, x)
		}
		return b
	}
	le64 := func(v ...uint64) (b []byte) {
		for _, x := range v {
			b = binary.LittleEndian.AppendUint64(b, x)
		}
		return b
	}
	one := math.Float32bits(1.5)
	for _, tt := range []struct {
		t    DataType
		dims []int64
		p    *onnxpb.TensorProto
		want []byte
	}{
		{Float, []int64{2}, &onnxpb.TensorProto{FloatData: []float32{1.5, -0}}, le32(one, 0)},
		{Complex64, []int64{1}, &onnxpb.TensorProto{FloatData: []float32{1.5, 1.5}}, le32(one, one)},
		{Double, []int64{1}, &onnxpb.TensorProto{DoubleData: []float64{1.5}}, le64(math.Float64bits(1.5))},
		{Int64, []int64{2}, &onnxpb.TensorProto{Int64Data: []int64{-1, 7}}, le64(math.MaxUint64, 7)},
		{Uint64, []int64{1}, &onnxpb.TensorProto{Uint64Data: []uint64{math.MaxUint64}}, le64(math.MaxUint64)},
		{Uint32, []int64{1}, &onnxpb.TensorProto{Uint64Data: []uint64{math.MaxUint32}}, le32(math.MaxUint32)},
		{Int32, []int64{2}, &onnxpb.TensorProto{Int32Data: []int32{-1, math.MaxInt32}}, le32(math.MaxUint32, math.MaxInt32)},
		{Int16, []int64{2}, &onnxpb.TensorProto{Int32Data: []int32{-1, 32767}}, le16(0xffff, 32767)},
		{Uint16, []int64{1}, &onnxpb.TensorProto{Int32Data: []int32{65535}}, le16(65535)},
		{Int8, []int64{3}, &onnxpb.TensorProto{Int32Data: []int32{-128, -1, 127}}, []byte{128, 255, 127}},
		{Uint8, []int64{2}, &onnxpb.TensorProto{Int32Data: []int32{0, 255}}, []byte{0, 255}},
		{Bool, []int64{2}, &onnxpb.TensorProto{Int32Data: []int32{1, 0}}, []byte{1, 0}},
		{Float16, []int64{2}, &onnxpb.TensorProto{Int32Data: []int32{0x3c00, 0xfc00}}, le16(0x3c00, 0xfc00)},
		{BFloat16, []int64{1}, &onnxpb.TensorProto{Int32Data: []int32{0x3f80}}, le16(0x3f80)},
		{Int4, []int64{3}, &onnxpb.TensorProto{Int32Data: []int32{0x21, 0x03}}, []byte{0x21, 0x03}},
		{Uint4, []int64{3}, &onnxpb.TensorProto{RawData: []byte{0xfe, 0x0d}}, []byte{0xfe, 0x0d}},
		{Float, []int64{0}, &onnxpb.TensorProto{}, []byte{}},
		{Float, []int64{}, &onnxpb.TensorProto{FloatData: []float32{1.5}}, le32(one)},
	} {
		p := tt.p
		p.Name, p.Dims, p.DataType = proto.String("w"), tt.dims, proto.Int32(int32(tt.t))
		d := &decoder{limits: Limits{}.withDefaults()}
		got, err := d.tensor(p, "tensor")
		if err != nil {
			t.Errorf("%v: %v", tt.t, err)
			continue
		}
		if want := (&Tensor{Name: "w", Type: tt.t, Dims: tt.dims, Data: tt.want}); !reflect.DeepEqual(got, want) {
			t.Errorf("%v: got %+v, want %+v", tt.t, got, want)
		}
		if err := got.check(); err != nil {
			t.Error(err)
		}
	}
	p := &onnxpb.TensorProto{Dims: []int64{2}, DataType: proto.Int32(int32(String)), StringData: [][]byte{[]byte("a"), {0xff}}}
	d := &decoder{limits: Limits{}.withDefaults()}
	if got, err := d.tensor(p, "tensor"); err != nil || len(got.Strings) != 2 {
		t.Errorf("strings: %+v, %v", got, err)
	}
}

// TestHalfPrecision reads fp16 weights as floats.
func TestHalfPrecision(t *testing.T) {
	w := &Tensor{Type: Float16, Dims: []int64{4}, Data: []byte{0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00, 0x00, 0x7c}}
	got, ok := w.Floats()
	want := []float32{1, -2, 1.0 / (1 << 24), float32(math.Inf(1))}
	if !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestOldForms normalises what older writers do.
func TestOldForms(t *testing.T) {
	p := tiny()
	p.IrVersion = proto.Int64(3)
	p.Graph.Input = append(p.Graph.Input, &onnxpb.ValueInfoProto{Name: proto.String("w")})
	p.OpsetImport[0].Domain = proto.String("ai.onnx")
	p.Graph.Node[0].Domain = proto.String("ai.onnx")
	p.Graph.Input[0].Type.GetTensorType().Shape.Dim[0].Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: -1}
	data, err := proto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Unmarshal(data, ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Graph.Inputs) != 1 || m.Graph.Inputs[0].Shape.String() != "[?,3]" {
		t.Errorf("inputs are %v", m.Graph.Inputs)
	}
	if m.Opsets[""] != 17 || m.Graph.Nodes[0].Domain != "" {
		t.Errorf("opsets are %v, domain %q", m.Opsets, m.Graph.Nodes[0].Domain)
	}
}

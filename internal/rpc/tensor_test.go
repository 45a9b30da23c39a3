package rpc

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	inferencepb "galley/api/inference/v2"

	"galley/onnx"
	"galley/onnx/session"
	"galley/task"
)

// elementBytes draws raw contents of n elements of a datatype. finite leaves
// out what JSON cannot write.
func elementBytes(t *rapid.T, datatype string, n int, finite bool) []byte {
	switch datatype {
	case "BYTES":
		texts := rapid.SliceOfN(rapid.String(), n, n).Draw(t, "texts")
		if !finite && n > 0 {
			texts[0] += "\xff\x00"
		}
		return rawTexts(texts...)
	case "BOOL":
		return rapid.SliceOfN(rapid.ByteRange(0, 1), n, n).Draw(t, "bools")
	}
	size := datatypes[datatype] * n
	b := rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "bytes")
	// All exponent bits set are NaN and the infinities: clear the lowest.
	if finite {
		for i := range n {
			switch datatype {
			case "FP16":
				b[2*i+1] &^= 0x04
			case "BF16":
				b[2*i] &^= 0x80
			case "FP32":
				b[4*i+2] &^= 0x80
			case "FP64":
				b[8*i+6] &^= 0x10
			}
		}
	}
	return b
}

// Each datatype arrives and leaves as it was sent, over gRPC.
func TestDatatypesRoundTrip(t *testing.T) {
	client := newInferenceClient(t, newInference(t))
	for datatype := range datatypes {
		t.Run(datatype, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				shape := rapid.SliceOfN(rapid.Int64Range(0, 3), 0, 3).Draw(rt, "shape")
				n := int64(1)
				for _, d := range shape {
					n *= d
				}
				raw := elementBytes(rt, datatype, int(n), false)
				a, err := client.ModelInfer(t.Context(), &inferencepb.ModelInferRequest{
					ModelName: "echo-" + strings.ToLower(datatype), Inputs: []*input{{Name: "x", Datatype: datatype, Shape: shape}},
					RawInputContents: [][]byte{raw},
				})
				if err != nil {
					rt.Fatal(err)
				}
				if o := a.GetOutputs()[0]; o.GetDatatype() != datatype || !slices.Equal(o.GetShape(), shape) || !bytes.Equal(a.GetRawOutputContents()[0], raw) {
					rt.Fatalf("%v of %x became %v", shape, raw, a)
				}
			})
		})
	}
}

// Typed contents are read as the raw contents that hold the same elements.
func TestTypedContents(t *testing.T) {
	for datatype, c := range map[string]*contents{
		"BOOL":   {BoolContents: []bool{true, false}},
		"INT8":   {IntContents: []int32{math.MinInt8, math.MaxInt8}},
		"INT16":  {IntContents: []int32{math.MinInt16, math.MaxInt16}},
		"INT32":  {IntContents: []int32{math.MinInt32, math.MaxInt32}},
		"INT64":  {Int64Contents: []int64{math.MinInt64, math.MaxInt64}},
		"UINT8":  {UintContents: []uint32{0, math.MaxUint8}},
		"UINT16": {UintContents: []uint32{0, math.MaxUint16}},
		"UINT32": {UintContents: []uint32{0, math.MaxUint32}},
		"UINT64": {Uint64Contents: []uint64{0, math.MaxUint64}},
		"FP32":   {Fp32Contents: []float32{-1.5, math.MaxFloat32}},
		"FP64":   {Fp64Contents: []float64{-1.5, math.MaxFloat64}},
		"BYTES":  {BytesContents: [][]byte{{}, []byte("新闻")}},
	} {
		typed, err := inputTensors(&inferencepb.ModelInferRequest{Inputs: []*input{{Name: "x", Datatype: datatype, Shape: []int64{2}, Contents: c}}})
		if err != nil {
			t.Errorf("%s: %v", datatype, err)
			continue
		}
		raw, err := inputTensors(&inferencepb.ModelInferRequest{
			Inputs: []*input{{Name: "x", Datatype: datatype, Shape: []int64{2}}}, RawInputContents: [][]byte{rawBytes(typed["x"])},
		})
		if err != nil || typed["x"].Type != raw["x"].Type || !bytes.Equal(rawBytes(typed["x"]), rawBytes(raw["x"])) {
			t.Errorf("%s: %v and %v, %v", datatype, typed["x"], raw["x"], err)
		}
	}
}

// Elements of eight bytes lie where they may, wherever the message had them.
func TestRawContentsAreAligned(t *testing.T) {
	message := make([]byte, 64)
	message[1+8] = 7
	for at := range 8 {
		tensors, err := inputTensors(&inferencepb.ModelInferRequest{
			Inputs: []*input{{Name: "x", Datatype: "INT64", Shape: []int64{2}}}, RawInputContents: [][]byte{message[at : at+16]},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := session.Data[int64](tensors["x"]); len(got) != 2 || at == 1 && got[1] != 7 {
			t.Errorf("at %d: %v", at, got)
		}
	}
}

func TestHalfPrecision(t *testing.T) {
	for h := range 1 << 16 {
		x := onnx.Float16ToFloat32(uint16(h))
		if x == x && float16Bits(x) != uint16(h) {
			t.Fatalf("%#04x, %g, came back as %#04x", h, x, float16Bits(x))
		}
		if b := math.Float32frombits(uint32(h) << 16); b == b && bfloat16Bits(b) != uint16(h) {
			t.Fatalf("%#04x, %g, came back as %#04x", h, b, bfloat16Bits(b))
		}
	}
	for x, want := range map[float32]uint16{
		1 + 1.0/2048:                   0x3c00, // halfway, to even
		1 + 3.0/2048:                   0x3c02,
		1 + 1.001/2048:                 0x3c01,
		65519.996:                      0x7bff,
		65520:                          0x7c00,
		-math.MaxFloat32:               0xfc00,
		math.SmallestNonzeroFloat32:    0,
		1.0 / (1 << 25):                0, // halfway between 0 and the smallest
		1.1 / (1 << 25):                1,
		(1 - 1.0/4096) * 1 / (1 << 14): 0x0400, // rounds up to the smallest normal
	} {
		if got := float16Bits(x); got != want {
			t.Errorf("%g became %#04x, want %#04x", x, got, want)
		}
	}
}

func FuzzInputTensors(f *testing.F) {
	for _, r := range []*inferencepb.ModelInferRequest{
		asked("sport", ""),
		{Inputs: []*input{{Name: "a", Datatype: "FP32", Shape: []int64{1, 2}, Contents: &contents{Fp32Contents: []float32{1, 2}}}, {Name: "b", Datatype: "BOOL", Shape: []int64{0}}}},
		{Inputs: []*input{{Name: "a", Datatype: "INT8", Shape: []int64{2}, Contents: &contents{IntContents: []int32{1, 200}}}}},
		{Inputs: []*input{{Name: "a", Datatype: "FP16", Shape: []int64{1 << 20, 1 << 20}}}, RawInputContents: [][]byte{{1, 2}}},
		{Inputs: []*input{{Name: "a", Datatype: "BYTES", Shape: []int64{1}}}, RawInputContents: [][]byte{{255, 255, 255, 255, 0}}},
	} {
		b, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		r := new(inferencepb.ModelInferRequest)
		if proto.Unmarshal(message, r) != nil {
			return
		}
		tensors, err := inputTensors(r)
		if err != nil {
			return
		}
		for i, in := range r.GetInputs() {
			x := tensors[in.GetName()]
			size := int64(len(x.Strings()))
			if x.Type != onnx.String {
				size = int64(len(x.Bytes())) * 8 / x.Type.Bits()
			}
			if task.Datatype(x.Type) != in.GetDatatype() || !slices.Equal(x.Shape, in.GetShape()) || x.Size() != size {
				t.Fatalf("%v became %v", in, x)
			}
			if len(r.GetRawInputContents()) > 0 && !bytes.Equal(rawBytes(x), r.GetRawInputContents()[i]) {
				t.Fatalf("%x became %x", r.GetRawInputContents()[i], rawBytes(x))
			}
		}
	})
}

func FuzzInferRequestJSON(f *testing.F) {
	for _, body := range []string{
		`{"inputs":[{"name":"text","datatype":"BYTES","shape":[2],"data":["a","\u00e9\ud83d\ude00"]}]}`,
		`{"id":"1","parameters":{"a":true,"b":-1,"c":1e3,"d":"x"},"inputs":[{"name":"a","datatype":"FP32","shape":[2,2],"data":[[1,2],[3,4.5e-3]]}],"outputs":[{"name":"y"}]}`,
		`{"inputs":[{"name":"a","datatype":"INT64","shape":[2,0],"data":[[],[]]}]}`,
		`{"inputs":[{"name":"a","datatype":"BOOL","shape":[],"data":[true]}]}`,
		`{"inputs":[{"name":"a","datatype":"FP16","shape":[3],"data":[1,[2],{"a":[3]}]}]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseInferRequest(body, nil)
		if err != nil {
			return
		}
		names := map[string]bool{}
		for _, in := range r.GetInputs() {
			names[in.GetName()] = true
		}
		tensors, err := inputTensors(r)
		if err != nil && len(names) == len(r.GetInputs()) {
			t.Fatalf("%s: raw contents that are refused: %v", body, err)
		}
		// What is read can be written, and reads back.
		for i, in := range r.GetInputs() {
			if err != nil {
				break
			}
			data, err := elementsJSON(in.GetName(), in.GetDatatype(), rawBytes(tensors[in.GetName()]))
			if err != nil || !json.Valid(data) {
				t.Fatalf("%s became %s, %v", body, data, err)
			}
			again, err := parseElements(in.GetName(), in.GetDatatype(), in.GetShape(), data)
			if err != nil || !bytes.Equal(again, r.GetRawInputContents()[i]) {
				t.Fatalf("%s: %x came back as %x, %v", body, r.GetRawInputContents()[i], again, err)
			}
		}
	})
}

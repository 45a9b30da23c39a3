package onnx

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"galley"
	onnxpb "galley/api/onnx/v1"
)

// tiny is a valid model y = Relu(x) + w as a message that tests break.
func tiny() *onnxpb.ModelProto {
	m := &Model{
		IRVersion: 8, Opsets: map[string]int64{"": 17},
		Graph: &Graph{
			Name:         "tiny",
			Inputs:       []Value{{Name: "x", Type: Float, Shape: Shape{Symbol("n"), {Size: 3}}}},
			Outputs:      []Value{{Name: "y", Type: Float, Shape: Shape{Symbol("n"), {Size: 3}}}},
			Initializers: []*Tensor{NewFloat("w", []float32{1, 2, 3}, 3)},
			Nodes: []*Node{
				{Name: "relu", Op: "Relu", Inputs: []string{"x"}, Outputs: []string{"h"}},
				{Name: "add", Op: "Add", Inputs: []string{"h", "w"}, Outputs: []string{"y"}},
			},
		},
	}
	p, err := (&encoder{}).model(m)
	if err != nil {
		panic(err)
	}
	return p
}

// nested wraps a graph into the branches of depth If nodes.
func nested(depth int) *onnxpb.ModelProto {
	p := tiny()
	inner := &onnxpb.GraphProto{Name: proto.String("leaf")}
	for i := range depth {
		inner = &onnxpb.GraphProto{Name: proto.String("g"), Node: []*onnxpb.NodeProto{{
			OpType: proto.String("If"), Input: []string{"x"}, Output: []string{fmt.Sprint("o", i)},
			Attribute: []*onnxpb.AttributeProto{{
				Name: proto.String("then_branch"), Type: onnxpb.AttributeProto_GRAPH.Enum(), G: inner,
			}},
		}}}
	}
	p.Graph.Node = append(p.Graph.Node, inner.Node...)
	return p
}

func external(p *onnxpb.ModelProto, entries ...string) *onnxpb.ModelProto {
	t := p.Graph.Initializer[0]
	t.RawData, t.DataLocation = nil, onnxpb.TensorProto_EXTERNAL.Enum()
	for i := 0; i < len(entries); i += 2 {
		t.ExternalData = append(t.ExternalData, entry(entries[i], entries[i+1]))
	}
	return p
}

func TestHostileModels(t *testing.T) {
	whole, err := proto.Marshal(tiny())
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(p *onnxpb.ModelProto)) []byte {
		p := tiny()
		f(p)
		data, err := proto.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	weight := func(f func(w *onnxpb.TensorProto)) []byte {
		return change(func(p *onnxpb.ModelProto) { f(p.Graph.Initializer[0]) })
	}
	// Nesting without the cost of building it: a graph field in a graph field.
	bomb := []byte{}
	for range 500 {
		for _, number := range []protowire.Number{6, 5, 1} { // attribute.g, node.attribute, graph.node
			bomb = append(protowire.AppendTag(nil, number, protowire.BytesType), protowire.AppendBytes(nil, bomb)...)
		}
	}
	bomb = append(protowire.AppendTag(nil, 7, protowire.BytesType), protowire.AppendBytes(nil, bomb)...)
	// A million nodes in two megabytes.
	crowd := bytes.Repeat([]byte{0x0a, 0x00}, 1<<20)
	crowd = append(protowire.AppendTag(nil, 7, protowire.BytesType), protowire.AppendBytes(nil, crowd)...)

	tests := []struct {
		name string
		data []byte
		code galley.Code
		want string
	}{
		{"empty", nil, galley.InvalidArgument, "model: has no graph"},
		{"text", []byte("this is no model at all"), galley.InvalidArgument, "model: is not a complete ONNX file"},
		{"html", []byte("<html><body>404</body></html>"), galley.InvalidArgument, "model: is not a complete ONNX file"},
		{"truncated", whole[:len(whole)-7], galley.InvalidArgument, "is not a complete ONNX file: onnx.ModelProto.graph: unexpected EOF — check that the file was copied whole"},
		{"unknown field", protowire.AppendVarint(protowire.AppendTag(append([]byte{}, whole...), 77, protowire.VarintType), 1), galley.Unimplemented, "ModelProto has the unknown field 77"},
		{"wrong wire type", protowire.AppendVarint(protowire.AppendTag(nil, 7, protowire.VarintType), 1), galley.InvalidArgument, "onnx.ModelProto.graph: wire type 0 does not fit message"},
		{"name not UTF-8", change(func(p *onnxpb.ModelProto) { p.Graph.Node[0].Name = proto.String("\xff") }), galley.InvalidArgument, "onnx.NodeProto.name is not valid UTF-8"},
		{"recursion bomb", bomb, galley.ResourceExhausted, "model: graphs nest deeper than 16"},
		{"many nodes", crowd, galley.ResourceExhausted, "model: has more than 250000 nodes"},
		{"opset too old", change(func(p *onnxpb.ModelProto) { p.OpsetImport[0].Version = proto.Int64(11) }), galley.Unimplemented, "model: opset 11 of the standard operators is not supported — opsets 17 to 23 are"},
		{"opset too new", change(func(p *onnxpb.ModelProto) { p.OpsetImport[0].Version = proto.Int64(99) }), galley.Unimplemented, "opset 99 of the standard operators is not supported — opsets 17 to 23 are"},
		{"no opset", change(func(p *onnxpb.ModelProto) { p.OpsetImport = nil }), galley.InvalidArgument, `node "relu" (Relu): domain ai.onnx has no operator set; the model imports none`},
		{"two opsets", change(func(p *onnxpb.ModelProto) {
			p.OpsetImport = append(p.OpsetImport, &onnxpb.OperatorSetIdProto{Domain: proto.String("ai.onnx"), Version: proto.Int64(18)})
		}), galley.InvalidArgument, "imports operator set ai.onnx twice, as 17 and 18"},
		{"IR too new", change(func(p *onnxpb.ModelProto) { p.IrVersion = proto.Int64(1000) }), galley.Unimplemented, "IR version 1000 is not supported — versions 3 to 14 are"},
		{"cycle", change(func(p *onnxpb.ModelProto) { p.Graph.Node[0].Input[0] = "y" }), galley.InvalidArgument, `node "add" (Add): is part of a cycle: node "add" (Add) -> node "relu" (Relu) -> node "add" (Add)`},
		{"self cycle", change(func(p *onnxpb.ModelProto) { p.Graph.Node[0].Input[0] = "h" }), galley.InvalidArgument, `node "relu" (Relu): is part of a cycle: node "relu" (Relu) -> node "relu" (Relu)`},
		{"wrong order", change(func(p *onnxpb.ModelProto) {
			p.Graph.Node[0], p.Graph.Node[1] = p.Graph.Node[1], p.Graph.Node[0]
		}), galley.InvalidArgument, `node "add" (Add): input "h" is written only later, by node "relu" (Relu) — nodes must be in topological order`},
		{"missing input", change(func(p *onnxpb.ModelProto) { p.Graph.Node[0].Input[0] = "ghost" }), galley.InvalidArgument, `node "relu" (Relu): input "ghost" does not exist`},
		{"missing output", change(func(p *onnxpb.ModelProto) { p.Graph.Output[0].Name = proto.String("ghost") }), galley.InvalidArgument, `output "ghost": no node, input or initializer gives it`},
		{"duplicate output", change(func(p *onnxpb.ModelProto) { p.Graph.Node[1].Output[0] = "h" }), galley.InvalidArgument, `node "add" (Add): output "h" is written a second time`},
		{"duplicate initializer", change(func(p *onnxpb.ModelProto) {
			p.Graph.Initializer = append(p.Graph.Initializer, p.Graph.Initializer[0])
		}), galley.InvalidArgument, `initializer "w": its name is taken`},
		{"duplicate input", change(func(p *onnxpb.ModelProto) { p.Graph.Input = append(p.Graph.Input, p.Graph.Input[0]) }), galley.InvalidArgument, `input "x": its name is taken`},
		{"duplicate attribute", change(func(p *onnxpb.ModelProto) {
			a := &onnxpb.AttributeProto{Name: proto.String("axis"), Type: onnxpb.AttributeProto_INT.Enum()}
			p.Graph.Node[0].Attribute = []*onnxpb.AttributeProto{a, a}
		}), galley.InvalidArgument, `node "relu" (Relu): has attribute "axis" twice`},
		{"attribute without type", change(func(p *onnxpb.ModelProto) {
			p.Graph.Node[0].Attribute = []*onnxpb.AttributeProto{{Name: proto.String("axis"), I: proto.Int64(1)}}
		}), galley.InvalidArgument, `node "relu" (Relu): attribute "axis" has no type`},
		{"no operator", change(func(p *onnxpb.ModelProto) { p.Graph.Node[0].OpType = nil }), galley.InvalidArgument, `node "relu" (): has no operator`},
		{"wrong data length", weight(func(w *onnxpb.TensorProto) { w.RawData = w.RawData[:11] }), galley.InvalidArgument, `tensor "w": has 11 bytes; float of dimensions [3] takes 12`},
		{"no data", weight(func(w *onnxpb.TensorProto) { w.RawData = nil }), galley.InvalidArgument, `tensor "w": has 0 bytes; float of dimensions [3] takes 12`},
		{"huge dims", weight(func(w *onnxpb.TensorProto) { w.Dims = []int64{1 << 40, 1 << 40} }), galley.InvalidArgument, `tensor "w": dimensions [1099511627776 1099511627776] overflow`},
		{"large dims", weight(func(w *onnxpb.TensorProto) { w.Dims = []int64{1 << 40} }), galley.ResourceExhausted, `tensor "w": with dimensions [1099511627776], tensors take more than 8589934592 bytes`},
		{"zero and huge dims", weight(func(w *onnxpb.TensorProto) { w.Dims = []int64{0, math.MaxInt64, math.MaxInt64}; w.RawData = nil }), "", ""},
		{"negative dims", weight(func(w *onnxpb.TensorProto) { w.Dims = []int64{-3} }), galley.InvalidArgument, `tensor "w": has the negative dimension -3`},
		{"many dims", weight(func(w *onnxpb.TensorProto) { w.Dims = make([]int64, 1000) }), galley.InvalidArgument, `tensor "w": has 1000 dimensions, more than 32`},
		{"unknown element type", weight(func(w *onnxpb.TensorProto) { w.DataType = proto.Int32(99) }), galley.InvalidArgument, `tensor "w": has the unknown element type 99`},
		{"segment", weight(func(w *onnxpb.TensorProto) { w.Segment = &onnxpb.TensorProto_Segment{} }), galley.Unimplemented, `tensor "w": is stored in segments — store it whole`},
		{"narrow value out of range", weight(func(w *onnxpb.TensorProto) {
			w.DataType, w.RawData, w.Int32Data = proto.Int32(int32(Int8)), nil, []int32{1, 2, 200}
		}), galley.InvalidArgument, `tensor "w": 200 does not fit int8`},
		{"negative input dim", change(func(p *onnxpb.ModelProto) {
			p.Graph.Input[0].Type.GetTensorType().Shape.Dim[1].Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: -7}
		}), galley.InvalidArgument, `input "x": has the negative dimension -7`},
		{"overflowing input", change(func(p *onnxpb.ModelProto) {
			for _, d := range p.Graph.Input[0].Type.GetTensorType().Shape.Dim {
				d.Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: math.MaxInt64}
			}
		}), galley.InvalidArgument, `input "x": shape [9223372036854775807,9223372036854775807] overflows`},
		{"external without a folder", change(func(p *onnxpb.ModelProto) { external(p, "location", "w.bin") }), galley.FailedPrecondition, `tensor "w": its data lies in another file — read the model from its folder`},
		{"training graphs", change(func(p *onnxpb.ModelProto) { p.TrainingInfo = []*onnxpb.TrainingInfoProto{{}} }), galley.Unimplemented, "model: holds training graphs of its own"},
		{"sparse weights", change(func(p *onnxpb.ModelProto) { p.Graph.SparseInitializer = []*onnxpb.SparseTensorProto{{}} }), galley.Unimplemented, `graph "tiny": has sparse initializers`},
		{"reference outside of a function", change(func(p *onnxpb.ModelProto) {
			p.Graph.Node[0].Attribute = []*onnxpb.AttributeProto{{Name: proto.String("axis"), RefAttrName: proto.String("a"), Type: onnxpb.AttributeProto_INT.Enum()}}
		}), galley.InvalidArgument, `node "relu" (Relu): attribute "axis" refers to "a" outside of a function`},
		{"long name in a message", change(func(p *onnxpb.ModelProto) { p.Graph.Node[0].Input[0] = strings.Repeat("x", 1<<16) }), galley.InvalidArgument, strings.Repeat("x", maxQuoted) + `..." does not exist`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := Unmarshal(tt.data, ReadOptions{})
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			checkError(t, err, tt.code, tt.want)
			if m != nil {
				t.Error("a model came with the error")
			}
		})
	}
}

func checkError(t *testing.T, err error, code galley.Code, want string) {
	t.Helper()
	var e *galley.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *galley.Error with %q", err, want)
	}
	if e.Code != code || !strings.Contains(e.Error(), want) {
		t.Errorf("got  %s: %v\nwant %s: %s", e.Code, e, code, want)
	}
	if e.Subject == "" || len(e.Error()) > 4096 {
		t.Errorf("subject %q, %d bytes of message", e.Subject, len(e.Error()))
	}
}

func TestNestedGraphs(t *testing.T) {
	for _, depth := range []int{1, 15, 17, 300} {
		data, err := proto.Marshal(nested(depth))
		if err != nil {
			t.Fatal(err)
		}
		m, err := Unmarshal(data, ReadOptions{})
		if fits := depth <= 16; fits != (err == nil) {
			t.Errorf("depth %d: %v", depth, err)
		}
		if m != nil {
			if _, err := InferShapes(m); err == nil {
				t.Error("an If without else_branch has no error")
			}
		}
	}
}

func TestLimits(t *testing.T) {
	data, err := proto.Marshal(tiny())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		limits Limits
		want   string
	}{
		{Limits{Bytes: int64(len(data)) - 1}, fmt.Sprintf("model: is larger than %d bytes", len(data)-1)},
		{Limits{Nodes: 1}, "model: has more than 1 nodes"},
		{Limits{Tensors: 1, TensorBytes: 11}, `tensor "w": with dimensions [3], tensors take more than 11 bytes`},
		{Limits{Elements: 5}, "model: has more than 5 parts"},
	} {
		_, err := Unmarshal(data, ReadOptions{Limits: tt.limits})
		checkError(t, err, galley.ResourceExhausted, tt.want)
		_, err = Read(bytes.NewReader(data), ReadOptions{Limits: tt.limits})
		checkError(t, err, galley.ResourceExhausted, tt.want)
	}
	if _, err := Read(bytes.NewReader(data), ReadOptions{Limits: Limits{Bytes: int64(len(data))}}); err != nil {
		t.Error(err)
	}
}

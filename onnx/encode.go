package onnx

import (
	"google.golang.org/protobuf/proto"

	"galley"
	onnxpb "galley/api/onnx/v1"
)

// An encoder turns a Model into messages that share its tensors' bytes.
// Everything that lies in a map is written in the order of its keys.
type encoder struct {
	external *externalWriter // nil if all data stays in the model
}

// text returns nil for "", so that absent and empty are written alike.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (e *encoder) model(m *Model) (*onnxpb.ModelProto, error) {
	if m.Graph == nil {
		return nil, invalid("model", "has no graph")
	}
	g, err := e.graph(m.Graph)
	if err != nil {
		return nil, err
	}
	p := &onnxpb.ModelProto{
		IrVersion: proto.Int64(m.IRVersion), ProducerName: text(m.ProducerName), ProducerVersion: text(m.ProducerVersion),
		Domain: text(m.Domain), DocString: text(m.Doc), Graph: g,
		OpsetImport: opsetsProto(m.Opsets), MetadataProps: metadataProto(m.Metadata),
	}
	if m.ModelVersion != 0 {
		p.ModelVersion = proto.Int64(m.ModelVersion)
	}
	for _, f := range m.Functions {
		q, err := e.function(f)
		if err != nil {
			return nil, err
		}
		p.Functions = append(p.Functions, q)
	}
	return p, nil
}

func opsetsProto(opsets map[string]int64) []*onnxpb.OperatorSetIdProto {
	var out []*onnxpb.OperatorSetIdProto
	for _, d := range sortedKeys(opsets) {
		out = append(out, &onnxpb.OperatorSetIdProto{Domain: proto.String(d), Version: proto.Int64(opsets[d])})
	}
	return out
}

func metadataProto(m map[string]string) []*onnxpb.StringStringEntryProto {
	var out []*onnxpb.StringStringEntryProto
	for _, k := range sortedKeys(m) {
		out = append(out, entry(k, m[k]))
	}
	return out
}

func entry(key, value string) *onnxpb.StringStringEntryProto {
	return &onnxpb.StringStringEntryProto{Key: proto.String(key), Value: proto.String(value)}
}

func (e *encoder) graph(g *Graph) (*onnxpb.GraphProto, error) {
	// A graph's name is required.
	p := &onnxpb.GraphProto{Name: proto.String(g.Name), DocString: text(g.Doc), MetadataProps: metadataProto(g.Metadata)}
	var err error
	if p.Node, err = e.nodes(g.Nodes); err != nil {
		return nil, err
	}
	for _, t := range g.Initializers {
		q, err := e.tensor(t)
		if err != nil {
			return nil, err
		}
		p.Initializer = append(p.Initializer, q)
	}
	if p.Input, err = valuesProto(g.Inputs); err != nil {
		return nil, err
	}
	if p.Output, err = valuesProto(g.Outputs); err != nil {
		return nil, err
	}
	p.ValueInfo, err = valuesProto(g.Values)
	return p, err
}

func (e *encoder) nodes(nodes []*Node) ([]*onnxpb.NodeProto, error) {
	var out []*onnxpb.NodeProto
	for _, n := range nodes {
		attrs, err := e.attrs(n.label(), n.Attrs)
		if err != nil {
			return nil, err
		}
		out = append(out, &onnxpb.NodeProto{
			Name: text(n.Name), OpType: proto.String(n.Op), Domain: text(n.Domain), Input: n.Inputs, Output: n.Outputs,
			Attribute: attrs, DocString: text(n.Doc), Overload: text(n.Overload), MetadataProps: metadataProto(n.Metadata),
		})
	}
	return out, nil
}

func (e *encoder) function(f *Function) (*onnxpb.FunctionProto, error) {
	p := &onnxpb.FunctionProto{
		Name: proto.String(f.Name), Domain: text(f.Domain), Overload: text(f.Overload), DocString: text(f.Doc),
		Input: f.Inputs, Output: f.Outputs, Attribute: f.Attrs,
		OpsetImport: opsetsProto(f.Opsets), MetadataProps: metadataProto(f.Metadata),
	}
	var err error
	if p.AttributeProto, err = e.attrs("function "+quote(f.Name), f.Defaults); err != nil {
		return nil, err
	}
	if p.ValueInfo, err = valuesProto(f.Values); err != nil {
		return nil, err
	}
	p.Node, err = e.nodes(f.Nodes)
	return p, err
}

func valuesProto(values []Value) ([]*onnxpb.ValueInfoProto, error) {
	var out []*onnxpb.ValueInfoProto
	for _, v := range values {
		p := &onnxpb.ValueInfoProto{Name: proto.String(v.Name), DocString: text(v.Doc), MetadataProps: metadataProto(v.Metadata)}
		switch {
		case v.Other != nil:
			p.Type = &onnxpb.TypeProto{}
			if err := proto.Unmarshal(v.Other, p.Type); err != nil {
				return nil, invalid("value "+quote(v.Name), "has a type that cannot be written: %w", err)
			}
		case v.Type != Undefined || v.Shape != nil:
			t := &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(v.Type)), Shape: shapeProto(v.Shape)}
			p.Type = &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{TensorType: t}}
		}
		out = append(out, p)
	}
	return out, nil
}

func shapeProto(s Shape) *onnxpb.TensorShapeProto {
	if s == nil {
		return nil
	}
	p := &onnxpb.TensorShapeProto{}
	for _, d := range s {
		q := &onnxpb.TensorShapeProto_Dimension{}
		switch {
		case d.Size >= 0:
			q.Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: d.Size}
		case d.Symbol != "":
			q.Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: d.Symbol}
		}
		p.Dim = append(p.Dim, q)
	}
	return p
}

func (e *encoder) attrs(where string, attrs map[string]Attr) ([]*onnxpb.AttributeProto, error) {
	var out []*onnxpb.AttributeProto
	for _, name := range sortedKeys(attrs) {
		p := &onnxpb.AttributeProto{Name: proto.String(name)}
		if err := e.attr(where, p, attrs[name]); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func (e *encoder) attr(where string, p *onnxpb.AttributeProto, a Attr) (err error) {
	switch a := a.(type) {
	case float32:
		p.Type, p.F = onnxpb.AttributeProto_FLOAT.Enum(), proto.Float32(a)
	case int64:
		p.Type, p.I = onnxpb.AttributeProto_INT.Enum(), proto.Int64(a)
	case string:
		p.Type, p.S = onnxpb.AttributeProto_STRING.Enum(), []byte(a)
	case []float32:
		p.Type, p.Floats = onnxpb.AttributeProto_FLOATS.Enum(), a
	case []int64:
		p.Type, p.Ints = onnxpb.AttributeProto_INTS.Enum(), a
	case []string:
		p.Type = onnxpb.AttributeProto_STRINGS.Enum()
		for _, s := range a {
			p.Strings = append(p.Strings, []byte(s))
		}
	case *Tensor:
		p.Type = onnxpb.AttributeProto_TENSOR.Enum()
		p.T, err = inlineTensor(a)
	case []*Tensor:
		p.Type = onnxpb.AttributeProto_TENSORS.Enum()
		for _, t := range a {
			q, err := inlineTensor(t)
			if err != nil {
				return err
			}
			p.Tensors = append(p.Tensors, q)
		}
	case *Graph:
		p.Type = onnxpb.AttributeProto_GRAPH.Enum()
		p.G, err = e.graph(a)
	case []*Graph:
		p.Type = onnxpb.AttributeProto_GRAPHS.Enum()
		for _, g := range a {
			q, err := e.graph(g)
			if err != nil {
				return err
			}
			p.Graphs = append(p.Graphs, q)
		}
	case AttrRef:
		p.RefAttrName = proto.String(a.Name)
		for kind, name := range attrKinds {
			if name == a.Kind {
				p.Type = kind.Enum()
			}
		}
	default:
		return invalid(where, "attribute %s has the Go type %T, which is no attribute's", quote(p.GetName()), a)
	}
	return err
}

// tensor writes an initializer, its bytes perhaps to another file.
func (e *encoder) tensor(t *Tensor) (*onnxpb.TensorProto, error) {
	p, err := inlineTensor(t)
	if err != nil || e.external == nil || !e.external.takes(t) {
		return p, err
	}
	p.RawData = nil
	p.DataLocation = onnxpb.TensorProto_EXTERNAL.Enum()
	p.ExternalData, err = e.external.write(t.Data)
	return p, err
}

func inlineTensor(t *Tensor) (*onnxpb.TensorProto, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	p := &onnxpb.TensorProto{Name: text(t.Name), DataType: proto.Int32(int32(t.Type)), Dims: t.Dims}
	if t.Type == String {
		p.StringData = t.Strings
		return p, nil
	}
	p.RawData = t.Data
	if p.RawData == nil {
		p.RawData = []byte{} // present, if empty
	}
	return p, nil
}

// maxMessage is the size that a protocol buffer message cannot reach.
const maxMessage = 1 << 31

func (e *encoder) marshal(m *Model) ([]byte, error) {
	p, err := e.model(m)
	if err != nil {
		return nil, err
	}
	if size := proto.Size(p); size >= maxMessage {
		return nil, galley.Errorf(galley.ResourceExhausted, "model", "takes %d bytes, more than a file can hold", size).
			WithRemedy("write its tensors as external data")
	}
	data, err := deterministic.Marshal(p)
	if err != nil {
		return nil, invalid("model", "cannot be written: %w", err)
	}
	return data, nil
}

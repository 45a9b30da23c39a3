package onnx

import (
	"google.golang.org/protobuf/proto"

	"galley"
	onnxpb "galley/api/onnx/v1"
)

// A decoder turns messages into a Model. It lets go of each message's tensor
// data as it takes it over.
type decoder struct {
	limits   Limits
	external *externalData // nil if there is no folder to read from
	bytes    int64         // of all tensors so far
}

func unsupported(subject, what, remedy string) error {
	return galley.Errorf(galley.Unimplemented, subject, "%s", what).WithRemedy("%s", remedy)
}

func (d *decoder) model(p *onnxpb.ModelProto) (*Model, error) {
	switch {
	case p.Graph == nil:
		return nil, invalid("model", "has no graph").WithRemedy("this is no ONNX model")
	case len(p.TrainingInfo) > 0:
		return nil, unsupported("model", "holds training graphs of its own", "export it for inference; galley derives the training graph itself")
	case len(p.Configuration) > 0:
		return nil, unsupported("model", "is laid out over several devices", "export it without device configurations")
	}
	m := &Model{
		IRVersion: p.GetIrVersion(), ProducerName: p.GetProducerName(), ProducerVersion: p.GetProducerVersion(),
		Domain: p.GetDomain(), ModelVersion: p.GetModelVersion(), Doc: p.GetDocString(),
	}
	var err error
	if m.Opsets, err = opsets("model", p.OpsetImport); err != nil {
		return nil, err
	}
	if m.Metadata, err = metadata("model", p.MetadataProps); err != nil {
		return nil, err
	}
	if m.Graph, err = d.graph(p.Graph); err != nil {
		return nil, err
	}
	for _, f := range p.Functions {
		g, err := d.function(f)
		if err != nil {
			return nil, err
		}
		m.Functions = append(m.Functions, g)
	}
	return m, nil
}

func opsets(where string, imports []*onnxpb.OperatorSetIdProto) (map[string]int64, error) {
	out := make(map[string]int64, len(imports))
	for _, o := range imports {
		domain := normalDomain(o.GetDomain())
		if v, ok := out[domain]; ok && v != o.GetVersion() {
			return nil, invalid(where, "imports operator set %s twice, as %d and %d", domainName(domain), v, o.GetVersion())
		}
		out[domain] = o.GetVersion()
	}
	return out, nil
}

func metadata(where string, props []*onnxpb.StringStringEntryProto) (map[string]string, error) {
	if len(props) == 0 {
		return nil, nil
	}
	out := make(map[string]string, len(props))
	for _, p := range props {
		if _, ok := out[p.GetKey()]; ok {
			return nil, invalid(where, "has the metadata key %s twice", quote(p.GetKey()))
		}
		out[p.GetKey()] = p.GetValue()
	}
	return out, nil
}

func (d *decoder) graph(p *onnxpb.GraphProto) (*Graph, error) {
	where := "graph " + quote(p.GetName())
	switch {
	case len(p.SparseInitializer) > 0:
		return nil, unsupported(where, "has sparse initializers", "store them as dense ones")
	case len(p.QuantizationAnnotation) > 0:
		return nil, unsupported(where, "has quantization annotations", "express them as QuantizeLinear and DequantizeLinear nodes")
	}
	g := &Graph{Name: p.GetName(), Doc: p.GetDocString()}
	var err error
	if g.Metadata, err = metadata(where, p.MetadataProps); err != nil {
		return nil, err
	}
	weights := make(map[string]bool, len(p.Initializer))
	for _, t := range p.Initializer {
		w, err := d.tensor(t, "tensor "+quote(t.GetName()))
		if err != nil {
			return nil, err
		}
		weights[w.Name] = true
		g.Initializers = append(g.Initializers, w)
	}
	if g.Inputs, err = values("input", p.Input); err != nil {
		return nil, err
	}
	g.Inputs = withoutWeights(g.Inputs, weights)
	if g.Outputs, err = values("output", p.Output); err != nil {
		return nil, err
	}
	if g.Values, err = values("value", p.ValueInfo); err != nil {
		return nil, err
	}
	g.Nodes, err = d.nodes(p.Node)
	return g, err
}

// withoutWeights drops the inputs that are initializers: files before IR
// version 4 list all of them, later ones those that a caller may replace.
func withoutWeights(inputs []Value, weights map[string]bool) []Value {
	kept := inputs[:0]
	for _, v := range inputs {
		if !weights[v.Name] {
			kept = append(kept, v)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return kept
}

func (d *decoder) nodes(ps []*onnxpb.NodeProto) ([]*Node, error) {
	var out []*Node
	for _, p := range ps {
		n := &Node{
			Name: p.GetName(), Op: p.GetOpType(), Domain: normalDomain(p.GetDomain()),
			Inputs: p.Input, Outputs: p.Output, Doc: p.GetDocString(), Overload: p.GetOverload(),
		}
		if len(p.DeviceConfigurations) > 0 {
			return nil, unsupported(n.label(), "is laid out over several devices", "export the model without device configurations")
		}
		var err error
		if n.Metadata, err = metadata(n.label(), p.MetadataProps); err != nil {
			return nil, err
		}
		if n.Attrs, err = d.attrs(n.label(), p.Attribute); err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

func (d *decoder) function(p *onnxpb.FunctionProto) (*Function, error) {
	where := "function " + quote(p.GetName())
	f := &Function{
		Name: p.GetName(), Domain: normalDomain(p.GetDomain()), Overload: p.GetOverload(), Doc: p.GetDocString(),
		Inputs: p.Input, Outputs: p.Output, Attrs: p.Attribute,
	}
	var err error
	if f.Opsets, err = opsets(where, p.OpsetImport); err != nil {
		return nil, err
	}
	if f.Metadata, err = metadata(where, p.MetadataProps); err != nil {
		return nil, err
	}
	if f.Defaults, err = d.attrs(where, p.AttributeProto); err != nil {
		return nil, err
	}
	if f.Values, err = values("value", p.ValueInfo); err != nil {
		return nil, err
	}
	f.Nodes, err = d.nodes(p.Node)
	return f, err
}

func values(kind string, ps []*onnxpb.ValueInfoProto) ([]Value, error) {
	var out []Value
	for _, p := range ps {
		where := kind + " " + quote(p.GetName())
		v := Value{Name: p.GetName(), Doc: p.GetDocString()}
		var err error
		if v.Metadata, err = metadata(where, p.MetadataProps); err != nil {
			return nil, err
		}
		switch t := p.GetType().GetValue().(type) {
		case nil:
		case *onnxpb.TypeProto_TensorType:
			v.Type = DataType(t.TensorType.GetElemType())
			if v.Shape, err = shape(where, t.TensorType.Shape); err != nil {
				return nil, err
			}
		default:
			if v.Other, err = deterministic.Marshal(p.Type); err != nil {
				return nil, invalid(where, "has a type that cannot be kept: %w", err)
			}
		}
		out = append(out, v)
	}
	return out, nil
}

// deterministic writes messages the same way each time.
var deterministic = proto.MarshalOptions{Deterministic: true}

// shape reads dimensions. Exporters write -1 for an unknown size.
func shape(where string, p *onnxpb.TensorShapeProto) (Shape, error) {
	if p == nil {
		return nil, nil
	}
	if len(p.Dim) > maxRank {
		return nil, invalid(where, "has %d dimensions, more than %d", len(p.Dim), maxRank)
	}
	s := make(Shape, len(p.Dim))
	for i, d := range p.Dim {
		switch v := d.Value.(type) {
		case *onnxpb.TensorShapeProto_Dimension_DimValue:
			if v.DimValue < -1 {
				return nil, invalid(where, "has the negative dimension %d", v.DimValue)
			}
			s[i] = Dim{Size: v.DimValue}
		case *onnxpb.TensorShapeProto_Dimension_DimParam:
			s[i] = Symbol(v.DimParam)
		default:
			s[i] = unknownDim
		}
	}
	return s, nil
}

// attrKinds names the kinds of attributes.
var attrKinds = map[onnxpb.AttributeProto_AttributeType]string{
	onnxpb.AttributeProto_FLOAT: "float", onnxpb.AttributeProto_INT: "int", onnxpb.AttributeProto_STRING: "string",
	onnxpb.AttributeProto_TENSOR: "tensor", onnxpb.AttributeProto_GRAPH: "graph",
	onnxpb.AttributeProto_FLOATS: "floats", onnxpb.AttributeProto_INTS: "ints",
	onnxpb.AttributeProto_STRINGS: "strings", onnxpb.AttributeProto_TENSORS: "tensors",
	onnxpb.AttributeProto_GRAPHS: "graphs", onnxpb.AttributeProto_SPARSE_TENSOR: "sparse_tensor",
	onnxpb.AttributeProto_SPARSE_TENSORS: "sparse_tensors", onnxpb.AttributeProto_TYPE_PROTO: "type",
	onnxpb.AttributeProto_TYPE_PROTOS: "types",
}

func (d *decoder) attrs(where string, ps []*onnxpb.AttributeProto) (map[string]Attr, error) {
	if len(ps) == 0 {
		return nil, nil
	}
	out := make(map[string]Attr, len(ps))
	for _, p := range ps {
		if p.GetName() == "" {
			return nil, invalid(where, "has an attribute without a name")
		}
		if _, ok := out[p.GetName()]; ok {
			return nil, invalid(where, "has attribute %s twice", quote(p.GetName()))
		}
		a, err := d.attr(where, p)
		if err != nil {
			return nil, err
		}
		out[p.GetName()] = a
	}
	return out, nil
}

func (d *decoder) attr(where string, p *onnxpb.AttributeProto) (Attr, error) {
	kind := attrKinds[p.GetType()]
	name := quote(p.GetName())
	if p.GetRefAttrName() != "" {
		return AttrRef{Name: p.GetRefAttrName(), Kind: kind}, nil
	}
	switch p.GetType() {
	case onnxpb.AttributeProto_FLOAT:
		return p.GetF(), nil
	case onnxpb.AttributeProto_INT:
		return p.GetI(), nil
	case onnxpb.AttributeProto_STRING:
		return string(p.S), nil
	case onnxpb.AttributeProto_FLOATS:
		return append([]float32{}, p.Floats...), nil
	case onnxpb.AttributeProto_INTS:
		return append([]int64{}, p.Ints...), nil
	case onnxpb.AttributeProto_STRINGS:
		out := make([]string, len(p.Strings))
		for i, s := range p.Strings {
			out[i] = string(s)
		}
		return out, nil
	case onnxpb.AttributeProto_TENSOR:
		if p.T == nil {
			return nil, invalid(where, "attribute %s has no tensor", name)
		}
		return d.tensor(p.T, where+", attribute "+name)
	case onnxpb.AttributeProto_TENSORS:
		out := make([]*Tensor, 0, len(p.Tensors))
		for _, t := range p.Tensors {
			w, err := d.tensor(t, where+", attribute "+name)
			if err != nil {
				return nil, err
			}
			out = append(out, w)
		}
		return out, nil
	case onnxpb.AttributeProto_GRAPH:
		if p.G == nil {
			return nil, invalid(where, "attribute %s has no graph", name)
		}
		return d.graph(p.G)
	case onnxpb.AttributeProto_GRAPHS:
		out := make([]*Graph, 0, len(p.Graphs))
		for _, g := range p.Graphs {
			h, err := d.graph(g)
			if err != nil {
				return nil, err
			}
			out = append(out, h)
		}
		return out, nil
	case onnxpb.AttributeProto_UNDEFINED:
		return nil, invalid(where, "attribute %s has no type", name)
	default:
		return nil, unsupported(where, "attribute "+name+" is of kind "+kind, "export the model without it")
	}
}

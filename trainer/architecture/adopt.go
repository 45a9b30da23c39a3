package architecture

import (
	"encoding/binary"
	"math"
	"strings"

	"galley"
	"galley/onnx"
)

// Interface names the inputs of a text graph that galley did not build.
type Interface struct {
	IDs   string // int64 [batch,length]
	Mask  string // int64 [batch,length]
	Types string // int64 [batch,length], all zero; "" if the graph has none
}

// TextInputs finds the interface of an outside text graph by the names that
// exporters use.
func TextInputs(m *onnx.Model) (Interface, error) {
	var in Interface
	for _, v := range m.Graph.Inputs {
		if v.Type != onnx.Int64 || len(v.Shape) != 2 {
			return in, galley.Errorf(galley.InvalidArgument, "from", "input %q is not int64 [batch,length]", v.Name).
				WithRemedy("export the model with input_ids, attention_mask and optionally token_type_ids")
		}
		switch v.Name {
		case "input_ids":
			in.IDs = v.Name
		case "attention_mask":
			in.Mask = v.Name
		case "token_type_ids":
			in.Types = v.Name
		default:
			return in, galley.Errorf(galley.InvalidArgument, "from", "input %q has an unknown meaning", v.Name).
				WithRemedy("export the model with input_ids, attention_mask and optionally token_type_ids")
		}
	}
	if in.IDs == "" || in.Mask == "" {
		return in, galley.Errorf(galley.InvalidArgument, "from", "the graph has no inputs input_ids and attention_mask")
	}
	return in, nil
}

// AdoptOptions say how an outside graph becomes a classifier.
type AdoptOptions struct {
	Features string // the value the head is put on; "": found
	Classes  int
	Dropout  float64
	NGrams   NGrams
	Weighing *Weighing // of the n-grams
	Seed     uint64
}

// featuresKey is the metadata entry in which an adopted graph keeps the name
// of the value that its head is on: adopted again, it loses that head.
const featuresKey = "galley.features"

// Adopt returns a copy of an outside text graph with its head replaced by a
// fresh classifier: the features are cut out of the graph, averaged over the
// text's tokens if they are a sequence, and mapped to logits. Weights stored
// as fp16 are widened to float.
func Adopt(m *onnx.Model, opts AdoptOptions) (*onnx.Model, error) {
	in, err := TextInputs(m)
	if err != nil {
		return nil, err
	}
	if err := opts.NGrams.validate(); err != nil {
		return nil, err
	}
	m = m.Clone()
	if err := widen(m); err != nil {
		return nil, err
	}
	if opts.Features == "" {
		opts.Features = m.Metadata[featuresKey]
	}
	features, err := findFeatures(m, opts.Features)
	if err != nil {
		return nil, err
	}
	width := int(features.Shape[len(features.Shape)-1].Size)
	m.Graph.Outputs = []onnx.Value{features}
	onnx.RemoveUnused(m.Graph)
	if err := clearNames(m.Graph); err != nil {
		return nil, err
	}
	pooled := m.Graph.Outputs[0].Name
	m.Graph.Outputs = nil
	if m.Metadata == nil {
		m.Metadata = map[string]string{}
	}
	m.Metadata[featuresKey] = pooled

	g := extend(m.Graph, in.IDs, in.Mask, opts.Seed)
	if len(features.Shape) == 3 {
		pooled = g.maskedMean(pooled)
	}
	encoder := TextEncoder{Hidden: width, Dropout: opts.Dropout, NGrams: opts.NGrams}
	logits := g.classifierHead(encoder, pooled, width, opts.Weighing, opts.Classes)
	g.output(logits, Logits, onnx.Shape{onnx.Symbol("batch"), {Size: int64(opts.Classes)}})
	return m, nil
}

// clearNames gives the values of an outside graph other names where they have
// one that a head or a loss is known by.
func clearNames(g *onnx.Graph) error {
	var taken []string
	for _, t := range g.Initializers {
		taken = append(taken, t.Name)
	}
	for _, n := range g.Nodes {
		taken = append(taken, n.Outputs...)
	}
	fresh := onnx.NewBuilder(g)
	for _, name := range taken {
		if !reserved(name) {
			continue
		}
		if err := onnx.Rename(g, name, fresh.Name("outside."+name)); err != nil {
			return err
		}
	}
	return nil
}

// reserved reports whether a name is one that galley puts onto a graph.
func reserved(name string) bool {
	switch name {
	case Logits, EncoderLogits, NGramLogits, "loss", "targets", "weights":
		return true
	}
	return IsHead(name) || strings.HasPrefix(name, "ngrams.") || strings.HasPrefix(name, "blend.")
}

// findFeatures returns the value that a head is put on: the named one, else
// the first output that is a sequence of states, else the first that is one
// state a text.
func findFeatures(m *onnx.Model, name string) (onnx.Value, error) {
	types, err := onnx.InferShapes(m)
	if err != nil {
		return onnx.Value{}, err
	}
	usable := func(v onnx.Value, rank int) bool {
		return v.Type == onnx.Float && len(v.Shape) == rank && v.Shape[rank-1].Size > 0
	}
	if name != "" {
		v, ok := types.Lookup(name)
		if !ok || !(usable(v, 2) || usable(v, 3)) {
			return v, galley.Errorf(galley.InvalidArgument, "model.features", "%q is not a float value [batch,width] or [batch,length,width] of the graph", name)
		}
		return v, nil
	}
	for _, rank := range []int{3, 2} {
		for _, out := range m.Graph.Outputs {
			if v, ok := types.Lookup(out.Name); ok && usable(v, rank) {
				return v, nil
			}
		}
	}
	return onnx.Value{}, galley.Errorf(galley.InvalidArgument, "from", "no output of the graph is [batch,length,width] or [batch,width]").
		WithRemedy("name the value to put the head on as model.features")
}

// widen turns fp16 weights into float where the graph only moves them about
// before it casts them to float.
func widen(m *onnx.Model) error {
	consumers := m.Graph.Consumers()
	for _, t := range m.Graph.Initializers {
		if t.Type != onnx.Float16 {
			continue
		}
		if !onlyMovedThenCast(consumers, t.Name) {
			return galley.Errorf(galley.InvalidArgument, "from", "weight %q is used in half precision", t.Name).
				WithRemedy("export the model with float32 arithmetic")
		}
		values, _ := t.Floats()
		data := make([]byte, 4*len(values))
		for i, v := range values {
			binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(v))
		}
		t.Type, t.Data = onnx.Float, data
	}
	// Annotations of values between may still say fp16.
	m.Graph.Values = nil
	return nil
}

func onlyMovedThenCast(consumers map[string][]*onnx.Node, value string) bool {
	for _, n := range consumers[value] {
		switch n.Op {
		case "Cast":
			if n.Attrs["to"] != int64(onnx.Float) {
				return false
			}
		case "Gather", "Identity", "Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze":
			if n.Inputs[0] != value || !onlyMovedThenCast(consumers, n.Outputs[0]) {
				return false
			}
		default:
			return false
		}
	}
	return len(consumers[value]) > 0
}

package grad

import (
	"fmt"

	"galley"
	"galley/onnx"
)

// A Mask is a graph input that stands for a Dropout node in training. The
// caller fills it with 0 where a value is dropped and 1/(1-Ratio) elsewhere.
type Mask struct {
	Input string
	Ratio float32
	Shape onnx.Shape // of the masked value; sizes are fixed or symbols of the inputs
}

// TrainingDropout returns a copy of m in which each Dropout node is a product
// with a mask that is a graph input of type float: randomness comes from
// outside, so that a training step can be repeated exactly. Nodes with ratio
// 0 do nothing and get no mask.
func TrainingDropout(m *onnx.Model) (*onnx.Model, []Mask, error) {
	types, err := onnx.InferShapes(m)
	if err != nil {
		return nil, nil, err
	}
	m = m.Clone()
	b := onnx.NewBuilder(m.Graph)
	var masks []Mask
	for _, n := range m.Graph.Nodes {
		if n.Op != "Dropout" || standardDomain(n.Domain) != "" {
			continue
		}
		ratio, err := dropoutRatio(types, n)
		if err != nil {
			return nil, nil, err
		}
		data := n.Input(0)
		if n.Output(1) != "" {
			return nil, nil, dropoutError(n, "the mask output is used")
		}
		n.Attrs, n.Inputs, n.Outputs = nil, n.Inputs[:1], n.Outputs[:1]
		if ratio == 0 {
			n.Op = "Identity"
			continue
		}
		shape := types.Shape(data)
		if types.Type(data) != onnx.Float || shape == nil || hasUnnamed(shape) {
			return nil, nil, dropoutError(n, fmt.Sprintf("the value %s it masks is %v%v; it must be float with fixed or named dimensions",
				data, types.Type(data), shape))
		}
		mask := Mask{Input: b.Name(fmt.Sprintf("dropout_mask_%d", len(masks))), Ratio: ratio, Shape: shape}
		b.Input(mask.Input, onnx.Float, shape)
		masks = append(masks, mask)
		n.Op = "Mul"
		n.Inputs = []string{data, mask.Input}
	}
	return m, masks, nil
}

// dropoutRatio reads the ratio, an attribute up to opset 11 and an input
// since.
func dropoutRatio(types *onnx.Types, n *onnx.Node) (float32, error) {
	ratio := n.AttrFloat("ratio", 0.5)
	if in := n.Input(1); in != "" {
		t, ok := types.Constant(in)
		if !ok {
			return 0, dropoutError(n, "its ratio is computed in the graph")
		}
		r, ok := t.Floats()
		if !ok || len(r) != 1 {
			return 0, dropoutError(n, "its ratio is not one number")
		}
		ratio = r[0]
	}
	if !(ratio >= 0 && ratio < 1) {
		return 0, dropoutError(n, fmt.Sprintf("its ratio %v is not in [0, 1)", ratio))
	}
	return ratio, nil
}

func dropoutError(n *onnx.Node, why string) error {
	return galley.Errorf(galley.InvalidArgument, nodeName(n), "dropout cannot be trained: %s", why).
		WithRemedy("give it a constant ratio in [0, 1) and a float value of known shape")
}

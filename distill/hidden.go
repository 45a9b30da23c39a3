package distill

import (
	"galley"
	"galley/onnx"
	"galley/trainer/architecture"
)

// HiddenValue finds the state of a text that a classifier's logits are computed
// from: what the last product with a matrix of weights reads, float
// [batch,width]. Of logits that are a sum of branches it is the encoder's. name
// names the model in the error.
func HiddenValue(name string, m *onnx.Model, logits string) (onnx.Value, error) {
	none := func(why string) (onnx.Value, error) {
		return onnx.Value{}, galley.Errorf(galley.FailedPrecondition, "hidden_loss", "%s has no hidden state to match: %s", name, why).
			WithRemedy("leave hidden_loss out, or choose a model with an encoder whose logits are a product of its state and weights")
	}
	types, err := onnx.InferShapes(m)
	if err != nil {
		return none(galley.AsError(err).Message)
	}
	weights := map[string]bool{}
	for _, t := range m.Graph.Initializers {
		weights[t.Name] = true
	}
	producers := m.Graph.Producers()
	at := logits
	if architecture.HasBranches(m) {
		at = architecture.EncoderLogits
	}
	for range len(m.Graph.Nodes) + 1 { // a graph has no circles
		node := producers[at]
		if node == nil {
			return none("its logits are not computed from a state")
		}
		product := false
		switch node.Op {
		case "Identity", "Dropout":
			at = node.Input(0)
		case "Add", "Mul", "Sub", "Div":
			switch {
			case weights[node.Input(1)]:
				at = node.Input(0)
			case weights[node.Input(0)]:
				at = node.Input(1)
			default:
				return none("its logits are made of several values")
			}
		case "MatMul", "Gemm":
			if !weights[node.Input(1)] {
				return none("its logits are a product of two computed values")
			}
			at, product = node.Input(0), true
		default:
			return none("its logits come from an operator " + node.Op)
		}
		if !product {
			continue
		}
		for producers[at] != nil && (producers[at].Op == "Dropout" || producers[at].Op == "Identity") {
			at = producers[at].Input(0)
		}
		v, ok := types.Lookup(at)
		if !ok || v.Type != onnx.Float || len(v.Shape) != 2 || v.Shape[1].Size < 1 {
			return none("the state is not float [batch, width]")
		}
		return v, nil
	}
	return none("its logits are computed from themselves")
}

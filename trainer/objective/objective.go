// Package objective puts the loss of a task onto a model's graph and computes
// the numbers that the loss is fed with.
//
// The host computes targets (labels smoothed, weighted and normalised over a
// whole step); the graph multiplies them with log-probabilities. So label
// smoothing, class weights and accumulation over several batches need no
// graphs of their own.
package objective

import (
	"galley"
	"galley/onnx"
	"galley/trainer/architecture"
)

// Names of what an objective adds to a graph.
const (
	Loss    = "loss"    // float scalar: the batch's share of the step's loss
	Targets = "targets" // classification: float [batch,classes]; masked LM: int64 [masked]
	Weights = "weights" // masked LM: float [masked]
)

// Classification returns a copy of m, a graph with an output "logits", whose
// loss is -Σ targets·log softmax(logits).
//
// If the logits are a sum of branches, a share of the loss, branchLoss, is
// that of each branch by itself, scaled to the sum's size: so that one branch
// does not idle while the other has learnt the training rows by heart.
func Classification(m *onnx.Model, branchLoss float64) (*onnx.Model, error) {
	nothing := func(*onnx.Builder) (string, error) { return "", nil }
	return classifier(m, branchLoss, nothing, func(b *onnx.Builder, shape onnx.Shape) func(string) string {
		targets := b.Input(Targets, onnx.Float, shape)
		return func(logits string) string { return crossEntropy(b, targets, logits) }
	})
}

// crossEntropy adds -Σ targets·log softmax(logits).
func crossEntropy(b *onnx.Builder, targets, logits string) string {
	logp := b.OpAttrs("LogSoftmax", map[string]onnx.Attr{"axis": int64(-1)}, logits)
	return b.Op("Neg", b.OpAttrs("ReduceSum", map[string]onnx.Attr{"keepdims": int64(0)}, b.Op("Mul", targets, logp)))
}

// classifier puts a loss onto the logits of a copy of m and, by a share of
// branchLoss, onto each branch. begin adds the inputs of the loss, for logits
// of a shape, and returns what adds the loss of logits; further adds a loss of
// something else, if it returns one.
func classifier(m *onnx.Model, branchLoss float64, further func(*onnx.Builder) (string, error), begin func(*onnx.Builder, onnx.Shape) func(logits string) string) (*onnx.Model, error) {
	m = m.Clone()
	logits, err := output(m, architecture.Logits)
	if err != nil {
		return nil, err
	}
	if len(logits.Shape) != 2 {
		return nil, galley.Errorf(galley.InvalidArgument, logits.Name, "has shape %s", logits.Shape).
			WithRemedy("a classifier's logits are [batch,classes]")
	}
	b := onnx.NewBuilder(m.Graph)
	loss := begin(b, logits.Shape)
	total := loss(logits.Name)
	if architecture.HasBranches(m) && branchLoss > 0 {
		total = b.Op("Mul", total, b.Float(float32(1-branchLoss)))
		for _, branch := range []string{architecture.EncoderLogits, architecture.NGramLogits} {
			alone := loss(b.Op("Mul", branch, b.Float(2)))
			total = b.Op("Add", total, b.Op("Mul", alone, b.Float(float32(branchLoss/2))))
		}
	}
	more, err := further(b)
	if err != nil {
		return nil, err
	}
	if more != "" {
		total = b.Op("Add", total, more)
	}
	setLoss(b, total)
	return m, nil
}

// MaskedLM returns a copy of m, a graph with an output "token_logits"
// [masked,V], whose loss is Σ weights·(-log softmax(token_logits)[targets]).
func MaskedLM(m *onnx.Model) (*onnx.Model, error) {
	m = m.Clone()
	logits, err := output(m, architecture.TokenLogits)
	if err != nil {
		return nil, err
	}
	b := onnx.NewBuilder(m.Graph)
	masked := onnx.Shape{onnx.Symbol("masked")}
	targets := b.Input(Targets, onnx.Int64, masked)
	weights := b.Input(Weights, onnx.Float, masked)
	nll := b.OpAttrs("SoftmaxCrossEntropyLoss", map[string]onnx.Attr{"reduction": "none"}, logits.Name, targets)
	total := b.OpAttrs("ReduceSum", map[string]onnx.Attr{"keepdims": int64(0)}, b.Op("Mul", nll, weights))
	setLoss(b, total)
	return m, nil
}

func setLoss(b *onnx.Builder, value string) {
	b.Graph.Nodes = append(b.Graph.Nodes,
		&onnx.Node{Name: b.Name("loss_node"), Op: "Identity", Inputs: []string{value}, Outputs: []string{Loss}})
	b.Output(Loss, onnx.Float, onnx.Shape{})
}

func output(m *onnx.Model, name string) (onnx.Value, error) {
	for _, v := range m.Graph.Outputs {
		if v.Name == name {
			return v, nil
		}
	}
	return onnx.Value{}, galley.Errorf(galley.InvalidArgument, "model", "the graph has no output %q", name)
}

// Trainable returns the names of the initializers that training may change:
// float tensors of more than one element. Scalars are constants of formulas.
func Trainable(m *onnx.Model) []string {
	var names []string
	for _, t := range m.Graph.Initializers {
		if t.Type == onnx.Float && len(t.Dims) > 0 && t.Size() > 1 && !architecture.IsConstant(t.Name) {
			names = append(names, t.Name)
		}
	}
	return names
}

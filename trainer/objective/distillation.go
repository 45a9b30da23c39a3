package objective

import (
	"galley/onnx"
)

// Names of what a distillation adds to a graph, beside Targets.
const (
	SoftTargets = "soft_targets" // float [batch,classes]: the teachers' probabilities, each row times its weight
	SoftEntropy = "soft_entropy" // float scalar: Σ weight·p·log p of the batch, which no weight of the student changes
)

// Distillation returns a copy of m, a graph with an output "logits", whose
// loss is -Σ targets·log softmax(logits) and, at a temperature T above 0,
//
//	Σ weight · KL(p ‖ softmax(logits/T))
//
// where p are the teachers' probabilities at T (Hinton, Vinyals and Dean,
// 2015). The host puts alpha and T² into the rows' weights.
//
// Branches have a share of the loss alone, as Classification gives it to them.
func Distillation(m *onnx.Model, branchLoss, temperature float64) (*onnx.Model, error) {
	return classifier(m, branchLoss, func(b *onnx.Builder, shape onnx.Shape) func(string) string {
		targets := b.Input(Targets, onnx.Float, shape)
		soft := b.Input(SoftTargets, onnx.Float, shape)
		entropy := b.Input(SoftEntropy, onnx.Float, onnx.Shape{})
		inverse := b.Float(float32(1 / temperature))
		return func(logits string) string {
			hard := crossEntropy(b, targets, logits)
			cross := crossEntropy(b, soft, b.Op("Mul", logits, inverse))
			return b.Op("Add", hard, b.Op("Add", cross, entropy))
		}
	})
}

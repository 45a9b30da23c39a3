package objective

import (
	"math"
	"math/rand/v2"

	"galley"
	"galley/onnx"
)

// Names of what a distillation adds to a graph, beside Targets.
const (
	SoftTargets   = "soft_targets"   // float [batch,classes]: the teachers' probabilities, each row times its weight
	HiddenTargets = "hidden_targets" // float [batch,width]: the teacher's hidden states
	HiddenWeight  = "hidden_weight"  // float scalar: what a squared difference counts
	SoftEntropy   = "soft_entropy"   // float scalar: Σ weight·p·log p of the batch, which no weight of the student changes
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
// With hidden states to match, weight · Σ (projection(state) - targets)² is
// added.
func Distillation(m *onnx.Model, branchLoss, temperature float64, match *Match) (*onnx.Model, error) {
	return classifier(m, branchLoss, match.loss, func(b *onnx.Builder, shape onnx.Shape) func(string) string {
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

// A Match brings a student's hidden state near its teacher's, of whatever
// width, through a projection that is learnt with the student and is no part of
// it (Romero and others: FitNets, 2015).
type Match struct {
	State  onnx.Value // of the student, float [batch,width]
	Target int        // width of the teacher's
	Seed   uint64     // of the projection's first weights
}

// projectionKey tells the projection's random numbers from other uses of a seed.
const projectionKey = 0x70726f6a

// Names of the projection's weights.
const (
	projectionWeight = "distill.projection.weight"
	projectionBias   = "distill.projection.bias"
)

// loss adds the squared differences; nil adds nothing.
func (m *Match) loss(b *onnx.Builder) (string, error) {
	if m == nil {
		return "", nil
	}
	if len(m.State.Shape) != 2 || m.State.Shape[1].Size < 1 || m.Target < 1 {
		return "", galley.Errorf(galley.InvalidArgument, m.State.Name, "has shape %s, to match %d numbers", m.State.Shape, m.Target)
	}
	width := m.State.Shape[1].Size
	r := rand.New(rand.NewPCG(m.Seed, projectionKey))
	weights := make([]float32, width*int64(m.Target))
	for i := range weights {
		weights[i] = float32(r.NormFloat64() / math.Sqrt(float64(width)))
	}
	w := b.Weight(onnx.NewFloat(projectionWeight, weights, width, int64(m.Target)))
	bias := b.Weight(onnx.NewFloat(projectionBias, make([]float32, m.Target), int64(m.Target)))
	targets := b.Input(HiddenTargets, onnx.Float, onnx.Shape{m.State.Shape[0], {Size: int64(m.Target)}})
	weight := b.Input(HiddenWeight, onnx.Float, onnx.Shape{})
	difference := b.Op("Sub", b.Op("Add", b.Op("MatMul", m.State.Name, w), bias), targets)
	sum := b.OpAttrs("ReduceSum", map[string]onnx.Attr{"keepdims": int64(0)}, b.Op("Mul", difference, difference))
	return b.Op("Mul", sum, weight), nil
}

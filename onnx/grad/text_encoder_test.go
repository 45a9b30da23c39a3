//go:build peers

package grad_test

import (
	"fmt"
	"math"
	"math/rand/v2"

	"galley/onnx"
)

// Sizes of the text encoder that is compared with PyTorch: a pre-normalised
// transformer as galley's own architecture builds it.
const (
	layers, hidden, heads, forward = 4, 256, 4, 1024
	batchSize, length, vocabulary  = 32, 64, 16000
	classes                        = 4
)

// An encoderGraph is the text encoder being built.
type encoderGraph struct {
	*onnx.Builder
	rng  *rand.Rand
	mask string
}

func newEncoder() *encoderGraph {
	g := &encoderGraph{Builder: onnx.NewBuilder(&onnx.Graph{Name: "text encoder"}), rng: rand.New(rand.NewPCG(1, 1))}
	shape := onnx.Shape{onnx.Symbol("batch"), onnx.Symbol("length")}
	g.Input("input_ids", onnx.Int64, shape)
	g.Input("attention_mask", onnx.Int64, shape)
	g.mask = g.OpAttrs("Cast", attrs{"to": int64(onnx.Float)}, "attention_mask")
	return g
}

func (g *encoderGraph) weight(name string, dims ...int64) string {
	x := make([]float32, size(dims))
	for i := range x {
		x[i] = float32(g.rng.NormFloat64() * 0.02)
	}
	return g.Weight(onnx.NewFloat(name, x, dims...))
}

func (g *encoderGraph) linear(name, x string, in, out int64) string {
	return g.Op("Add", g.Op("MatMul", x, g.weight(name+".weight", in, out)), g.weight(name+".bias", out))
}

func (g *encoderGraph) norm(name, x string) string {
	scale := make([]float32, hidden)
	for i := range scale {
		scale[i] = 1 + float32(g.rng.NormFloat64()*0.02)
	}
	return g.OpAttrs("LayerNormalization", attrs{"axis": int64(-1), "epsilon": float32(1e-5)},
		x, g.Weight(onnx.NewFloat(name+".scale", scale, hidden)), g.weight(name+".bias", hidden))
}

// encode returns the states, [batch,length,hidden].
func (g *encoderGraph) encode() string {
	end := g.OpAttrs("Shape", attrs{"start": int64(1), "end": int64(2)}, "input_ids")
	positions := g.Op("Slice", g.weight("embeddings.positions", length, hidden), g.Ints(0), end, g.Ints(0))
	x := g.Op("Add", g.Op("Gather", g.weight("embeddings.tokens", vocabulary, hidden), "input_ids"), positions)
	x = g.norm("embeddings.norm", x)
	bias := g.Op("Unsqueeze", g.Op("Mul", g.Op("Sub", g.Float(1), g.mask), g.Float(-1e9)), g.Ints(1, 2))
	for i := range layers {
		name := fmt.Sprintf("layer.%d.", i)
		x = g.Op("Add", x, g.attention(name+"attention.", g.norm(name+"attention.norm", x), bias))
		y := g.linear(name+"feed_forward.up", g.norm(name+"feed_forward.norm", x), hidden, forward)
		x = g.Op("Add", x, g.linear(name+"feed_forward.down", g.Op("Gelu", y), forward, hidden))
	}
	return g.norm("norm", x)
}

func (g *encoderGraph) attention(name, x, bias string) string {
	const d = hidden / heads
	qkv := g.Node("", "Split", attrs{"axis": int64(-1), "num_outputs": int64(3)}, 3, g.linear(name+"qkv", x, hidden, 3*hidden))
	split := func(v string, perm ...int64) string {
		return g.OpAttrs("Transpose", attrs{"perm": perm}, g.Op("Reshape", v, g.Ints(0, 0, heads, d)))
	}
	q := g.Op("Mul", split(qkv[0], 0, 2, 1, 3), g.Float(float32(1/math.Sqrt(d))))
	scores := g.Op("Add", g.Op("MatMul", q, split(qkv[1], 0, 2, 3, 1)), bias)
	y := g.Op("MatMul", g.OpAttrs("Softmax", attrs{"axis": int64(-1)}, scores), split(qkv[2], 0, 2, 1, 3))
	y = g.Op("Reshape", g.OpAttrs("Transpose", attrs{"perm": []int64{0, 2, 1, 3}}, y), g.Ints(0, 0, hidden))
	return g.linear(name+"out", y, hidden, hidden)
}

// finish sums losses to the output "loss" and returns the model.
func (g *encoderGraph) finish(losses string) *onnx.Model {
	node := &onnx.Node{Op: "ReduceSum", Attrs: attrs{"keepdims": int64(0)}, Inputs: []string{losses}, Outputs: []string{"loss"}}
	g.Graph.Nodes = append(g.Graph.Nodes, node)
	g.Output("loss", onnx.Float, onnx.Shape{})
	return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": 20}, Graph: g.Graph}
}

// classifier is the encoder with mean pooling; targets are weighted one-hot.
func classifier() *onnx.Model {
	g := newEncoder()
	state := g.encode()
	sum := g.Op("Squeeze", g.Op("MatMul", g.Op("Unsqueeze", g.mask, g.Ints(1)), state), g.Ints(1))
	count := g.OpAttrs("ReduceSum", attrs{"keepdims": int64(1)}, g.mask, g.Ints(1))
	logits := g.linear("head", g.Op("Div", sum, count), hidden, classes)
	targets := g.Input("targets", onnx.Float, onnx.Shape{onnx.Symbol("batch"), {Size: classes}})
	logp := g.OpAttrs("LogSoftmax", attrs{"axis": int64(-1)}, logits)
	return g.finish(g.Op("Neg", g.Op("Mul", targets, logp)))
}

// maskedLM is the encoder with a decoder tied to the token table.
func maskedLM() *onnx.Model {
	g := newEncoder()
	masked := onnx.Shape{onnx.Symbol("masked")}
	positions := g.Input("positions", onnx.Int64, masked)
	targets := g.Input("targets", onnx.Int64, masked)
	weights := g.Input("weights", onnx.Float, masked)
	x := g.Op("Gather", g.Op("Reshape", g.encode(), g.Ints(-1, hidden)), positions)
	x = g.norm("mlm.norm", g.Op("Gelu", g.linear("mlm.transform", x, hidden, hidden)))
	table := g.OpAttrs("Transpose", attrs{"perm": []int64{1, 0}}, "embeddings.tokens")
	logits := g.Op("Add", g.Op("MatMul", x, table), g.weight("mlm.bias", vocabulary))
	losses := g.OpAttrs("SoftmaxCrossEntropyLoss", attrs{"reduction": "none"}, logits, targets)
	return g.finish(g.Op("Mul", losses, weights))
}

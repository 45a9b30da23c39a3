// Package architecture builds the ONNX graphs of galley's own model
// architectures, with freshly drawn weights. An architecture is defined here
// once; every engine trains this graph and the registry stores it.
package architecture

import (
	"hash/fnv"
	"math/rand/v2"

	"galley/onnx"
)

// Standard deviations of fresh weights (Devlin et al., 2019, draw all from
// 0.02; embeddings keep it, matrices use it too).
const (
	embeddingDeviation = 0.02
	matrixDeviation    = 0.02
)

// graph is a graph being built: weights by name, each drawn from the seed and
// its own name, so that adding a weight does not change the others.
type graph struct {
	b     *onnx.Builder
	seed  uint64
	ids   string // the input that holds token ids
	mask  string // the input that holds the attention mask
	cache map[string]string
}

func newGraph(seed uint64) *graph {
	return extend(&onnx.Graph{Name: "galley"}, InputIDs, AttentionMask, seed)
}

// extend builds onto an existing graph with inputs called ids and mask.
func extend(g *onnx.Graph, ids, mask string, seed uint64) *graph {
	return &graph{b: onnx.NewBuilder(g), seed: seed, ids: ids, mask: mask, cache: map[string]string{}}
}

func (g *graph) model(architecture string) *onnx.Model {
	return &onnx.Model{
		IRVersion:    9,
		Opsets:       map[string]int64{"": Opset},
		ProducerName: "galley",
		Metadata:     map[string]string{"galley.architecture": architecture},
		Graph:        g.b.Graph,
	}
}

// output names value as a graph output.
func (g *graph) output(value, name string, shape onnx.Shape) {
	g.b.Output(g.named(value, name), onnx.Float, shape)
}

// named gives value a name that others can rely on.
func (g *graph) named(value, name string) string {
	node := &onnx.Node{Name: name, Op: "Identity", Inputs: []string{value}, Outputs: []string{name}}
	g.b.Graph.Nodes = append(g.b.Graph.Nodes, node)
	return name
}

func (g *graph) normal(name string, deviation float64, dims ...int) string {
	h := fnv.New64a()
	h.Write([]byte(name))
	r := rand.New(rand.NewPCG(g.seed, h.Sum64()))
	sizes, n := int64s(dims)
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(r.NormFloat64() * deviation)
	}
	return g.b.Weight(onnx.NewFloat(name, values, sizes...))
}

func (g *graph) filled(name string, value float32, dims ...int) string {
	sizes, n := int64s(dims)
	values := make([]float32, n)
	for i := range values {
		values[i] = value
	}
	return g.b.Weight(onnx.NewFloat(name, values, sizes...))
}

func (g *graph) zeros(name string, dims ...int) string { return g.filled(name, 0, dims...) }

// linear is x W + b with W [in,out].
func (g *graph) linear(name, x string, in, out int) string {
	w := g.normal(name+".weight", matrixDeviation, in, out)
	return g.b.Op("Add", g.b.Op("MatMul", x, w), g.zeros(name+".bias", out))
}

func (g *graph) norm(name, x string, width int) string {
	return g.b.OpAttrs("LayerNormalization", map[string]onnx.Attr{"axis": int64(-1), "epsilon": float32(1e-5)},
		x, g.filled(name+".scale", 1, width), g.zeros(name+".bias", width))
}

// dropout marks where a fraction of values is dropped while training; it is
// the identity when the stored graph is run.
func (g *graph) dropout(x string, ratio float64) string {
	if ratio == 0 {
		return x
	}
	return g.b.Op("Dropout", x, g.b.Float(float32(ratio)))
}

// floatMask is the attention mask as floats, [B,S].
func (g *graph) floatMask() string {
	return g.once("mask", func() string {
		return g.b.OpAttrs("Cast", map[string]onnx.Attr{"to": int64(onnx.Float)}, g.mask)
	})
}

// attentionBias is 0 where a token may be looked at and -1e9 at padding,
// [B,1,1,S].
func (g *graph) attentionBias() string {
	return g.once("bias", func() string {
		away := g.b.Op("Mul", g.b.Op("Sub", g.b.Float(1), g.floatMask()), g.b.Float(-1e9))
		return g.b.Op("Unsqueeze", away, g.b.Ints(1, 2))
	})
}

// maskedMean is the mean of the states of a text's tokens, [B,S,H] -> [B,H].
func (g *graph) maskedMean(state string) string {
	mask := g.b.Op("Unsqueeze", g.floatMask(), g.b.Ints(1)) // [B,1,S]
	sum := g.b.Op("Squeeze", g.b.Op("MatMul", mask, state), g.b.Ints(1))
	return g.b.Op("Div", sum, g.tokenCount())
}

// maskedMax is the greatest of the states of a text's tokens, by column,
// [B,S,H] -> [B,H].
func (g *graph) maskedMax(state string) string {
	away := g.b.Op("Mul", g.b.Op("Sub", g.floatMask(), g.b.Float(1)), g.b.Float(1e4))
	masked := g.b.Op("Add", state, g.b.Op("Unsqueeze", away, g.b.Ints(2)))
	return g.b.OpAttrs("ReduceMax", map[string]onnx.Attr{"keepdims": int64(0)}, masked, g.b.Ints(1))
}

// tokenCount is the number of a text's tokens, at least 1, [B,1].
func (g *graph) tokenCount() string {
	return g.once("count", func() string {
		n := g.b.OpAttrs("ReduceSum", map[string]onnx.Attr{"keepdims": int64(1)}, g.floatMask(), g.b.Ints(1))
		return g.b.Op("Max", n, g.b.Float(1))
	})
}

func (g *graph) once(key string, build func() string) string {
	if v, ok := g.cache[key]; ok {
		return v
	}
	v := build()
	g.cache[key] = v
	return v
}

func int64s(dims []int) ([]int64, int) {
	sizes, n := make([]int64, len(dims)), 1
	for i, d := range dims {
		sizes[i] = int64(d)
		n *= d
	}
	return sizes, n
}

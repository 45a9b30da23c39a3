package architecture

import (
	"fmt"
	"math"
	"strings"

	"galley"
	"galley/onnx"
)

// NGrams are hashed n-grams of token ids, embedded, weighed by inverse
// document frequency and summed over a text (after Joulin et al., 2017). They
// are computed in the graph from input_ids, so that an exported model needs
// nothing else.
type NGrams struct {
	Orders  int `json:"orders"`  // n-grams of 1 to Orders tokens; 0 for none
	Buckets int `json:"buckets"` // rows of the table that n-grams are hashed to
	Width   int `json:"width"`   // columns of the table
}

// The hash of an n-gram of ids a, b, c is ((a+1)·A + b+1)·A + c+1, each step
// modulo the Mersenne prime P: A·P stays below 2^53, so that no product
// overflows in any runtime. Its bucket is that, mixed once more with its
// order, modulo the table's rows.
const (
	hashFactor = 1_000_003
	hashPrime  = 1<<31 - 1
)

// The table begins near zero, so that n-grams not seen in training add
// nothing; the head that reads it begins large, so that the table learns.
const (
	tableDeviation     = 0.001
	tableHeadDeviation = 0.3
)

// NGramTable is the name of the table's weight.
const NGramTable = "ngrams.table"

const ngramWeights = "ngrams.weights"

// IsConstant reports whether a tensor of floats is data of the graph that is
// not trained.
func IsConstant(name string) bool { return name == ngramWeights }

func (n NGrams) validate() error {
	if n.Orders == 0 {
		return nil
	}
	for _, f := range []struct {
		field        string
		v, low, high int
	}{{"orders", n.Orders, 0, 5}, {"buckets", n.Buckets, 16, 1 << 24}, {"width", n.Width, 1, 4096}} {
		if f.v < f.low || f.v > f.high {
			return galley.Errorf(galley.InvalidArgument, "model.ngrams."+f.field, "%d is out of range", f.v).
				WithRemedy("give a number from %d to %d", f.low, f.high)
		}
	}
	return nil
}

// bucketsOf appends the buckets of all n-grams of a text's ids to dst, as the
// graph computes them; counts tells which ids are words.
func (n NGrams) bucketsOf(dst []int64, ids []int32, counts []bool) []int64 {
	for t := range ids {
		h := int64(0)
		for order := 1; order <= n.Orders && t+order <= len(ids); order++ {
			id := ids[t+order-1]
			if !counts[id] {
				break
			}
			h = (h*hashFactor + int64(id) + 1) % hashPrime
			dst = append(dst, (h*hashFactor+int64(order))%hashPrime%int64(n.Buckets))
		}
	}
	return dst
}

// A Weighing counts in how many texts each bucket occurs, and weighs buckets
// by it: rare n-grams tell more. The weights are part of the graph and are
// not trained.
type Weighing struct {
	ngrams NGrams
	counts []bool // by token id: whether it is a word
	texts  int
	in     []int // texts by bucket
	last   []int // the last text that each bucket was counted for
	buf    []int64
}

// NewWeighing begins a count for a vocabulary whose special tokens are named.
func NewWeighing(n NGrams, vocabulary int, special []int32) *Weighing {
	w := &Weighing{ngrams: n, counts: make([]bool, vocabulary), in: make([]int, n.Buckets), last: make([]int, n.Buckets)}
	for id := range w.counts {
		w.counts[id] = true
	}
	for _, id := range special {
		if id >= 0 && int(id) < vocabulary {
			w.counts[id] = false
		}
	}
	return w
}

// Add counts one text.
func (w *Weighing) Add(ids []int32) {
	w.texts++
	w.buf = w.ngrams.bucketsOf(w.buf[:0], ids, w.counts)
	for _, bucket := range w.buf {
		if w.last[bucket] != w.texts {
			w.last[bucket] = w.texts
			w.in[bucket]++
		}
	}
}

// minTexts is in how many texts an n-gram must occur to count: one that occurs
// once tells its text by heart and nothing about others.
const minTexts = 2

// weights are the smoothed inverse document frequencies ln((1+n)/(1+df)) + 1,
// as scikit-learn has them, and 0 for what is too rare.
func (w *Weighing) weights() []float32 {
	out := make([]float32, len(w.in))
	for i, df := range w.in {
		if df >= minTexts {
			out[i] = float32(math.Log(float64(1+w.texts)/float64(1+df)) + 1)
		}
	}
	return out
}

// InheritWeighing gives the n-grams that parent weighs the weights they have
// there, with which its table was trained; those that it has no weight for, as
// it hardly saw them, keep that of m. It does nothing unless m has the parent's
// table.
func InheritWeighing(m, parent *onnx.Model) {
	ours, theirs := m.Graph.Initializer(ngramWeights), parent.Graph.Initializer(ngramWeights)
	table := m.Graph.Initializer(NGramTable)
	if ours == nil || theirs == nil || table != parent.Graph.Initializer(NGramTable) {
		return
	}
	values, _ := ours.Floats()
	kept, _ := theirs.Floats()
	for i, w := range kept {
		if w > 0 {
			values[i] = w
		}
	}
	ours.Data = onnx.NewFloat(ngramWeights, values, ours.Dims...).Data
}

// words is 1 for ids that are words, 0 for special tokens.
func (w *Weighing) words() []int64 {
	out := make([]int64, len(w.counts))
	for i, counts := range w.counts {
		if counts {
			out[i] = 1
		}
	}
	return out
}

// bag is the sum of the embeddings of all n-grams of a text, weighed, and
// divided by the norm of the weights, [B,Width]. An n-gram counts when all its
// tokens are words: hiding a token while training hides its n-grams.
func (n NGrams) bag(g *graph, w *Weighing) string {
	b := g.b
	table := g.normal(NGramTable, tableDeviation, n.Buckets, n.Width)
	inverse := b.Weight(onnx.NewFloat(ngramWeights, w.weights(), int64(n.Buckets)))
	words := b.Weight(onnx.NewInt64("ngrams.words", w.words(), int64(len(w.counts))))
	next := b.Op("Add", g.ids, b.Int(1))
	word := b.Op("Mul", b.Op("Gather", words, g.ids), g.mask)
	valid := word
	var hash string
	var buckets, valids []string
	for order := 1; order <= n.Orders; order++ {
		if order == 1 {
			hash = b.Op("Mod", next, b.Int(hashPrime))
		} else {
			shift := int64(order - 1)
			sum := b.Op("Add", b.Op("Mul", hash, b.Int(hashFactor)), shiftLeft(g, next, shift))
			hash = b.Op("Mod", sum, b.Int(hashPrime))
			valid = b.Op("Mul", valid, shiftLeft(g, word, shift))
		}
		mixed := b.Op("Mod", b.Op("Add", b.Op("Mul", hash, b.Int(hashFactor)), b.Int(int64(order))), b.Int(hashPrime))
		buckets = append(buckets, b.Op("Mod", mixed, b.Int(int64(n.Buckets))))
		valids = append(valids, valid)
	}
	along := map[string]onnx.Attr{"axis": int64(1)}
	bucket := b.OpAttrs("Concat", along, buckets...) // [B,Orders·S]
	here := b.OpAttrs("Cast", map[string]onnx.Attr{"to": int64(onnx.Float)}, b.OpAttrs("Concat", along, valids...))
	weight := b.Op("Mul", b.Op("Gather", inverse, bucket), here)
	rows := b.Op("Gather", table, bucket)                             // [B,Orders·S,Width]
	sum := b.Op("MatMul", b.Op("Unsqueeze", weight, b.Ints(1)), rows) // [B,1,Width]
	squares := b.OpAttrs("ReduceSum", map[string]onnx.Attr{"keepdims": int64(1)}, b.Op("Mul", weight, weight), b.Ints(1))
	norm := b.Op("Sqrt", b.Op("Add", squares, b.Float(1e-6)))
	return b.Op("Div", b.Op("Squeeze", sum, b.Ints(1)), norm)
}

// shiftLeft moves int64 [B,S] by k places along S and fills with zeros.
func shiftLeft(g *graph, x string, k int64) string {
	return g.once(fmt.Sprint("shift", x, k), func() string {
		padded := g.b.Op("Pad", x, g.b.Ints(0, 0, 0, k))
		return g.b.Op("Slice", padded, g.b.Ints(k), g.b.Ints(math.MaxInt64), g.b.Ints(1))
	})
}

// IsHead reports whether a weight belongs to the classifier's head.
func IsHead(name string) bool { return strings.HasPrefix(name, "head.") }

// classifierHead maps a text's pooled state [B,width], and its n-grams beside
// it, to logits.
func (g *graph) classifierHead(a TextEncoder, pooled string, width int, w *Weighing, classes int) string {
	logits := g.linear("head", g.dropout(pooled, a.Dropout), width, classes)
	if a.NGrams.Orders == 0 {
		return logits
	}
	// Named, so that training can give each branch a loss of its own.
	logits = g.named(logits, EncoderLogits)
	beside := g.named(g.ngramLogits(a, w, classes), NGramLogits)
	scaled := func(branch, factor string) string {
		return g.b.Op("Mul", branch, g.b.Weight(onnx.NewFloat(factor, []float32{1})))
	}
	return g.b.Op("Add", scaled(logits, encoderBlend), scaled(beside, ngramBlend))
}

// Names of the factors on the two branches. They are not trained with the
// weights but set by SetBlend afterwards.
const (
	encoderBlend = "blend.encoder"
	ngramBlend   = "blend.ngrams"
)

// HasBranches reports whether the logits of m are a sum of an encoder's and
// of n-grams'.
func HasBranches(m *onnx.Model) bool { return m.Graph.Initializer(ngramBlend) != nil }

// SetBlend sets how much the two branches of m count.
func SetBlend(m *onnx.Model, encoder, ngrams float32) {
	for i, t := range m.Graph.Initializers {
		switch t.Name {
		case encoderBlend:
			m.Graph.Initializers[i] = onnx.NewFloat(t.Name, []float32{encoder})
		case ngramBlend:
			m.Graph.Initializers[i] = onnx.NewFloat(t.Name, []float32{ngrams})
		}
	}
}

// ngramLogits is what the n-grams alone say.
func (g *graph) ngramLogits(a TextEncoder, w *Weighing, classes int) string {
	weight := g.normal("head.ngrams", tableHeadDeviation, a.NGrams.Width, classes)
	return g.b.Op("MatMul", g.dropout(a.NGrams.bag(g, w), a.Dropout), weight)
}

package architecture

import (
	"fmt"
	"math"
	"strings"

	"galley"
	"galley/onnx"
)

// NGrams are hashed n-grams of token ids, embedded and averaged over a text
// (Joulin et al., 2017). They are computed in the graph from input_ids, so
// that an exported model needs nothing else.
type NGrams struct {
	Orders  int `json:"orders"`  // n-grams of 1 to Orders tokens; 0 for none
	Buckets int `json:"buckets"` // rows of the table that n-grams are hashed to
	Width   int `json:"width"`   // columns of the table
}

// The hash of an n-gram of ids a, b, c is ((a+1)·A + b+1)·A + c+1, each step
// modulo the Mersenne prime P: A·P stays below 2^53, so that no product
// overflows in any runtime. Its bucket is that modulo the table's rows.
const (
	hashFactor = 1_000_003
	hashPrime  = 1<<31 - 1
)

// NGramTable is the name of the table's weight.
const NGramTable = "ngrams.table"

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

// Buckets returns the bucket of each n-gram of the given order in ids, as the
// graph computes it.
func (n NGrams) bucketsOf(ids []int64, order int) []int64 {
	var out []int64
	for t := 0; t+order <= len(ids); t++ {
		h := int64(0)
		for _, id := range ids[t : t+order] {
			h = (h*hashFactor + id + 1) % hashPrime
		}
		out = append(out, (h*hashFactor+int64(order))%hashPrime%int64(n.Buckets))
	}
	return out
}

// bag is the mean of the embeddings of all n-grams of a text, [B,Width]. An
// n-gram counts when all its tokens are real ones.
func (n NGrams) bag(g *graph) string {
	b := g.b
	table := g.normal(NGramTable, 1/math.Sqrt(float64(n.Width)), n.Buckets, n.Width)
	next := b.Op("Add", InputIDs, b.Int(1))
	mask := g.mask
	var hash string
	var buckets, masks []string
	for order := 1; order <= n.Orders; order++ {
		if order == 1 {
			hash = b.Op("Mod", next, b.Int(hashPrime))
		} else {
			shift := int64(order - 1)
			sum := b.Op("Add", b.Op("Mul", hash, b.Int(hashFactor)), shiftLeft(g, next, shift))
			hash = b.Op("Mod", sum, b.Int(hashPrime))
			mask = b.Op("Mul", mask, shiftLeft(g, g.mask, shift))
		}
		mixed := b.Op("Mod", b.Op("Add", b.Op("Mul", hash, b.Int(hashFactor)), b.Int(int64(order))), b.Int(hashPrime))
		buckets = append(buckets, b.Op("Mod", mixed, b.Int(int64(n.Buckets))))
		masks = append(masks, mask)
	}
	along := map[string]onnx.Attr{"axis": int64(1)}
	bucket := b.OpAttrs("Concat", along, buckets...) // [B,Orders·S]
	weight := b.OpAttrs("Cast", map[string]onnx.Attr{"to": int64(onnx.Float)}, b.OpAttrs("Concat", along, masks...))
	rows := b.Op("Gather", table, bucket)                             // [B,Orders·S,Width]
	sum := b.Op("MatMul", b.Op("Unsqueeze", weight, b.Ints(1)), rows) // [B,1,Width]
	count := b.OpAttrs("ReduceSum", map[string]onnx.Attr{"keepdims": int64(1)}, weight, b.Ints(1))
	return b.Op("Div", b.Op("Squeeze", sum, b.Ints(1)), b.Op("Max", count, b.Float(1)))
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

// classifierHead maps a text's pooled state, joined with its n-grams, to
// logits.
func (g *graph) classifierHead(a TextEncoder, pooled string, classes int) string {
	features, width := pooled, a.Hidden
	if a.NGrams.Orders > 0 {
		features = g.b.OpAttrs("Concat", map[string]onnx.Attr{"axis": int64(1)}, pooled, a.NGrams.bag(g))
		width += a.NGrams.Width
	}
	return g.linear("head", g.dropout(features, a.Dropout), width, classes)
}

package architecture

import (
	"fmt"
	"math"

	"galley"
	"galley/onnx"
)

// TextEncoder is a pre-normalised transformer encoder over token ids, with
// optional hashed n-grams joined to its pooled state.
//
// Sizes: B texts of S tokens, H wide; vocabulary V; C classes.
type TextEncoder struct {
	Layers      int     `json:"layers"`
	Hidden      int     `json:"hidden"`       // H
	Heads       int     `json:"heads"`        // divides H
	FeedForward int     `json:"feed_forward"` // width between the two matrices of a block
	MaxLength   int     `json:"max_length"`   // most tokens, [CLS] and [SEP] included
	Vocabulary  int     `json:"vocabulary"`   // V
	Dropout     float64 `json:"dropout"`      // after embeddings and each block, and before the head
	NGrams      NGrams  `json:"ngrams"`
}

// Names of the graph's inputs and outputs.
const (
	InputIDs      = "input_ids"      // int64 [batch,length]
	AttentionMask = "attention_mask" // int64 [batch,length], 1 for tokens, 0 for padding
	Logits        = "logits"         // float [batch,classes]
	HiddenState   = "hidden_state"   // float [batch,length,H]
	TokenLogits   = "token_logits"   // float [batch,length,V], or [masked,V] while pretraining
	EncoderLogits = "encoder_logits" // within: the encoder's share of logits, if there are n-grams
	NGramLogits   = "ngram_logits"   // within: the n-grams' share
	Positions     = "positions"      // int64 [masked]: places among batch*length, while pretraining
)

// Opset is the version of the standard operators that architectures are
// written in: the first with Gelu.
const Opset = 20

// Validate checks the sizes against each other and against their bounds.
func (a TextEncoder) Validate() error {
	bound := func(field string, v, low, high int) error {
		if v < low || v > high {
			return galley.Errorf(galley.InvalidArgument, "model."+field, "%d is out of range", v).
				WithRemedy("give a number from %d to %d", low, high)
		}
		return nil
	}
	for _, f := range []struct {
		field        string
		v, low, high int
	}{
		{"layers", a.Layers, 0, 96},
		{"hidden", a.Hidden, 8, 8192},
		{"heads", a.Heads, 1, 128},
		{"feed_forward", a.FeedForward, 8, 65536},
		{"max_length", a.MaxLength, 4, 8192},
		{"vocabulary", a.Vocabulary, 6, 1 << 20},
	} {
		if err := bound(f.field, f.v, f.low, f.high); err != nil {
			return err
		}
	}
	if a.Hidden%a.Heads != 0 {
		return galley.Errorf(galley.InvalidArgument, "model.heads", "%d heads do not divide hidden %d", a.Heads, a.Hidden).
			WithRemedy("choose a number of heads that divides hidden")
	}
	if a.Dropout < 0 || a.Dropout >= 1 {
		return galley.Errorf(galley.InvalidArgument, "model.dropout", "%v is out of range", a.Dropout).
			WithRemedy("give a number from 0 to below 1")
	}
	return a.NGrams.validate()
}

// Classifier builds the graph input_ids, attention_mask -> logits for the
// given number of classes, with weights drawn from seed; w weighs the n-grams,
// if there are any.
func (a TextEncoder) Classifier(classes int, w *Weighing, seed uint64) (*onnx.Model, error) {
	if err := a.Validate(); err != nil {
		return nil, err
	}
	if classes < 2 {
		return nil, galley.Errorf(galley.InvalidArgument, "labels", "%d classes cannot be told apart", classes).
			WithRemedy("train on data with at least two labels")
	}
	g := a.begin(seed)
	if a.Layers == 0 {
		if a.NGrams.Orders == 0 {
			return nil, galley.Errorf(galley.InvalidArgument, "model.layers", "0 layers and no n-grams leave nothing to learn").
				WithRemedy("give layers, or ngrams.orders")
		}
		logits := g.b.Op("Add", g.ngramLogits(a, w, classes), g.zeros("head.bias", classes))
		g.output(logits, Logits, onnx.Shape{onnx.Symbol("batch"), {Size: int64(classes)}})
		return g.model("text-encoder"), nil
	}
	state := a.encode(g)
	pooled := g.b.OpAttrs("Concat", map[string]onnx.Attr{"axis": int64(1)}, g.maskedMean(state), g.maskedMax(state))
	logits := g.classifierHead(a, pooled, 2*a.Hidden, w, classes)
	g.output(logits, Logits, onnx.Shape{onnx.Symbol("batch"), {Size: int64(classes)}})
	return g.model("text-encoder"), nil
}

// MaskedLM builds the graph for pretraining, with the decoder tied to the
// token table. While training it has a third input, positions, and its
// token_logits are those of the masked positions alone, [masked,V]; otherwise
// it gives hidden_state and token_logits of all positions.
func (a TextEncoder) MaskedLM(training bool, seed uint64) (*onnx.Model, error) {
	if err := a.Validate(); err != nil {
		return nil, err
	}
	a.NGrams = NGrams{}
	g := a.begin(seed)
	state := a.encode(g)
	h := int64(a.Hidden)
	batch, length := onnx.Symbol("batch"), onnx.Symbol("length")
	shape := onnx.Shape{batch, length, {Size: int64(a.Vocabulary)}}
	x := state
	if training {
		g.b.Input(Positions, onnx.Int64, onnx.Shape{onnx.Symbol("masked")})
		x = g.b.OpAttrs("Gather", map[string]onnx.Attr{"axis": int64(0)},
			g.b.Op("Reshape", x, g.b.Ints(-1, h)), Positions)
		shape = onnx.Shape{onnx.Symbol("masked"), {Size: int64(a.Vocabulary)}}
	}
	x = g.linear("mlm.transform", x, a.Hidden, a.Hidden)
	x = g.b.Op("Gelu", x)
	x = g.norm("mlm.norm", x, a.Hidden)
	table := g.b.OpAttrs("Transpose", map[string]onnx.Attr{"perm": []int64{1, 0}}, TokenTable)
	x = g.b.Op("Add", g.b.Op("MatMul", x, table), g.zeros("mlm.bias", a.Vocabulary))
	g.output(x, TokenLogits, shape)
	if !training {
		g.output(state, HiddenState, onnx.Shape{batch, length, {Size: h}})
	}
	return g.model("text-encoder"), nil
}

// TokenTable is the name of the table of token embeddings.
const TokenTable = "embeddings.tokens"

func (a TextEncoder) begin(seed uint64) *graph {
	g := newGraph(seed)
	shape := onnx.Shape{onnx.Symbol("batch"), onnx.Symbol("length")}
	g.b.Input(InputIDs, onnx.Int64, shape)
	g.b.Input(AttentionMask, onnx.Int64, shape)
	return g
}

// encode returns the normalised state after the last block, [B,S,H].
func (a TextEncoder) encode(g *graph) string {
	b := g.b
	tokens := b.Op("Gather", g.normal(TokenTable, embeddingDeviation, a.Vocabulary, a.Hidden), InputIDs)
	// The positions' rows are a slice of the table: its gradient is dense
	// and small, where a second Gather would add rows one by one.
	length := b.OpAttrs("Shape", map[string]onnx.Attr{"start": int64(1), "end": int64(2)}, InputIDs)
	positions := b.Op("Slice", g.normal("embeddings.positions", embeddingDeviation, a.MaxLength, a.Hidden),
		b.Ints(0), length, b.Ints(0))
	x := b.Op("Add", tokens, positions)
	x = g.norm("embeddings.norm", x, a.Hidden)
	x = g.dropout(x, a.Dropout)

	bias := g.attentionBias()
	for i := range a.Layers {
		name := fmt.Sprintf("layer.%d.", i)
		y := a.attention(g, name+"attention.", g.norm(name+"attention.norm", x, a.Hidden), bias)
		x = b.Op("Add", x, g.dropout(y, a.Dropout))
		y = g.norm(name+"feed_forward.norm", x, a.Hidden)
		y = g.linear(name+"feed_forward.up", y, a.Hidden, a.FeedForward)
		y = g.linear(name+"feed_forward.down", b.Op("Gelu", y), a.FeedForward, a.Hidden)
		x = b.Op("Add", x, g.dropout(y, a.Dropout))
	}
	return g.norm("norm", x, a.Hidden)
}

// attention is multi-head self-attention: softmax(q kᵀ/√d + bias) v.
func (a TextEncoder) attention(g *graph, name, x, bias string) string {
	b := g.b
	heads, d := int64(a.Heads), int64(a.Hidden/a.Heads)
	qkv := b.Node("", "Split", map[string]onnx.Attr{"axis": int64(-1), "num_outputs": int64(3)}, 3,
		g.linear(name+"qkv", x, a.Hidden, 3*a.Hidden))
	split := func(v string, perm ...int64) string {
		v = b.Op("Reshape", v, b.Ints(0, 0, heads, d))
		return b.OpAttrs("Transpose", map[string]onnx.Attr{"perm": perm}, v)
	}
	q := b.Op("Mul", split(qkv[0], 0, 2, 1, 3), b.Float(float32(1/math.Sqrt(float64(d)))))
	k := split(qkv[1], 0, 2, 3, 1)
	v := split(qkv[2], 0, 2, 1, 3)
	scores := b.Op("Add", b.Op("MatMul", q, k), bias)
	y := b.Op("MatMul", b.OpAttrs("Softmax", map[string]onnx.Attr{"axis": int64(-1)}, scores), v)
	y = b.OpAttrs("Transpose", map[string]onnx.Attr{"perm": []int64{0, 2, 1, 3}}, y)
	y = b.Op("Reshape", y, b.Ints(0, 0, heads*d))
	return g.linear(name+"out", y, a.Hidden, a.Hidden)
}

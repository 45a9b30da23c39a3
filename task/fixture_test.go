package task

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"galley/feature/text"
	"galley/onnx"
	"galley/onnx/session"
)

// words is the vocabulary of the tests: a word's id is its place.
var words = []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "sport", "money", "goal", "bank", "新", "闻", "##s"}

// tokenizerJSON is a tokenizer.json over words.
func tokenizerJSON(t testing.TB) []byte {
	t.Helper()
	vocab := map[string]int{}
	for i, w := range words {
		vocab[w] = i
	}
	added := []map[string]any{}
	for i, w := range words[:5] {
		added = append(added, map[string]any{"id": i, "content": w, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
	}
	special := func(name string, id int) any {
		return map[string]any{"id": name, "ids": []int{id}, "tokens": []string{name}}
	}
	b, err := json.Marshal(map[string]any{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added,
		"normalizer":    map[string]any{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": nil, "lowercase": true},
		"pre_tokenizer": map[string]any{"type": "BertPreTokenizer"},
		"post_processor": map[string]any{
			"type": "TemplateProcessing",
			"single": []any{
				map[string]any{"SpecialToken": map[string]any{"id": "[CLS]", "type_id": 0}},
				map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}},
				map[string]any{"SpecialToken": map[string]any{"id": "[SEP]", "type_id": 0}},
			},
			"pair":           []any{map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}, map[string]any{"Sequence": map[string]any{"id": "B", "type_id": 1}}},
			"special_tokens": map[string]any{"[CLS]": special("[CLS]", 2), "[SEP]": special("[SEP]", 3)},
		},
		"decoder": map[string]any{"type": "WordPiece", "prefix": "##", "cleanup": true},
		"model":   map[string]any{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tokenizer(t testing.TB) *text.Tokenizer {
	t.Helper()
	tok, err := text.Load(strings.NewReader(string(tokenizerJSON(t))))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func config() *Config {
	return &Config{
		Format: ConfigFormat, Task: TextClassification, Labels: []string{"sport", "money"}, MaxLength: 8,
		Inputs: DefaultInputs, Outputs: DefaultOutputs,
	}
}

func classifier(t testing.TB) *TextClassifier {
	t.Helper()
	c, err := NewTextClassifier(config(), tokenizer(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// counting is a session whose logits are how often the tokens sport and goal,
// money and bank occur.
type counting struct {
	runs    [][]int64 // shapes
	outputs []onnx.Value
	fail    error
	logits  func([]float32) // changes the answer
}

func (c *counting) Inputs() []onnx.Value {
	s := onnx.Shape{onnx.Symbol("batch"), onnx.Symbol("length")}
	return []onnx.Value{{Name: "input_ids", Type: onnx.Int64, Shape: s}, {Name: "attention_mask", Type: onnx.Int64, Shape: s}}
}

func (c *counting) Outputs() []onnx.Value {
	if c.outputs != nil {
		return c.outputs
	}
	return []onnx.Value{{Name: "logits", Type: onnx.Float, Shape: onnx.Shape{onnx.Symbol("batch"), {Size: 2}}}}
}

func (c *counting) Run(_ context.Context, in map[string]*session.Tensor, _ ...string) (map[string]*session.Tensor, error) {
	if c.fail != nil {
		return nil, c.fail
	}
	ids, mask := session.Data[int64](in["input_ids"]), session.Data[int64](in["attention_mask"])
	shape := in["input_ids"].Shape
	c.runs = append(c.runs, shape)
	logits := make([]float32, 2*shape[0])
	for i, id := range ids {
		if mask[i] == 1 && id >= 5 && id <= 8 {
			logits[2*(int64(i)/shape[1])+(id-5)%2]++
		}
	}
	if c.logits != nil {
		c.logits(logits)
	}
	out, err := session.New(logits, shape[0], 2)
	return map[string]*session.Tensor{"logits": out}, err
}

func (c *counting) Bind() (session.Binding, error) { return nil, nil }
func (c *counting) Bytes() int64                   { return 0 }
func (c *counting) Close() error                   { return nil }

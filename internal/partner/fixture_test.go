package partner

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"galley/feature/text"
	"galley/federation"
	"galley/onnx"
	"galley/task"
	"galley/trainer"
	"galley/trainer/architecture"
	"galley/trainer/objective"
)

// labels of the model, and rows of a partner, one of them with another label.
var labels = []string{"money", "sport"}

const rowsCSV = `text,label
the goal of the match was late,sport
the bank holds rates,money
a goal for the team,sport
rates at the bank fall,money
rain tomorrow,weather
the match was won,sport
money of the bank,money
`

// bundle writes a small model's folder and returns its graph.
func bundle(t testing.TB, dir string) *onnx.Model {
	t.Helper()
	words := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "goal", "match", "bank", "rates", "the"}
	vocabulary := map[string]int{}
	var added []map[string]any
	for i, w := range words {
		vocabulary[w] = i
		if i < 5 {
			added = append(added, map[string]any{"id": i, "content": w, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
		}
	}
	special := func(name string, id int) any {
		return map[string]any{"id": name, "ids": []int{id}, "tokens": []string{name}}
	}
	tokenizer, err := json.Marshal(map[string]any{
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
		"model":   map[string]any{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary},
	})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := text.Load(strings.NewReader(string(tokenizer)))
	if err != nil {
		t.Fatal(err)
	}
	encoder := architecture.TextEncoder{Layers: 1, Hidden: 8, Heads: 2, FeedForward: 16, MaxLength: 8, Vocabulary: len(words)}
	graph, err := encoder.Classifier(len(labels), nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	config := &task.Config{
		Format: task.ConfigFormat, Task: task.TextClassification, Labels: labels, MaxLength: 8, Inputs: task.DefaultInputs,
		Outputs: task.Outputs{Logits: architecture.Logits},
	}
	if err := task.WriteBundle(dir, graph, config, tok); err != nil {
		t.Fatal(err)
	}
	return graph
}

// agreementText is a partner's file.
func agreementText(partner string, change ...string) []byte {
	text := fmt.Sprintf(`apiVersion: galley/v1
kind: Agreement
federation: headlines
partner: %s
purpose: topics of headlines
models: [news-topic]
rounds: 50
min_cohort: 2
expires: 2030-06-30
leaves:
  weights: true
  rows: {report: exact, most: 1000}
  metrics: [loss]
clip: 5
`, partner)
	return []byte(strings.NewReplacer(change...).Replace(text))
}

// recipe is what the coordinator offers.
func recipe(t testing.TB, change func(*trainer.Recipe)) json.RawMessage {
	t.Helper()
	r := trainer.Recipe{
		Epochs: 1, BatchSize: 2, Accumulate: 1, CheckpointEvery: 100, ClipNorm: 1,
		Optimizer: trainer.Optimizer{Name: "adamw", LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8, TableRate: 1},
		Schedule:  trainer.Schedule{Decay: "constant"}, ClassWeights: trainer.ClassWeights{Mode: "none"},
	}
	if change != nil {
		change(&r)
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// terms are those of a federation with one member, which an aggregate of two
// never comes from: rounds stay open until a test says otherwise.
func terms(t testing.TB, layout federation.Layout) federation.Terms {
	return federation.Terms{
		Federation: "headlines", Run: "job-1", Purpose: "topics of headlines", Model: "news-topic", Layout: layout.Digest(),
		Rounds: 3, Attempts: 5, Within: time.Minute, MinCohort: 2, Strategy: federation.FedAvg, Weighting: federation.ByRows, MaxShare: 0.6,
		Metrics: []string{"loss"}, Seed: 7, Recipe: recipe(t, nil),
	}
}

// journal is a log that a test can search.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// has waits for words in the log.
func (j *journal) has(t testing.TB, words string) {
	t.Helper()
	eventually(t, func() bool { return strings.Contains(j.String(), words) }, func() string { return "the log lacks " + words + ":\n" + j.String() })
}

func eventually(t testing.TB, ok func() bool, say func() string) {
	t.Helper()
	for begun := time.Now(); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatal(say())
		}
	}
}

func write(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// exchanged returns the weights of a graph that leave with an update.
func exchanged(graph *onnx.Model) ([]*onnx.Tensor, federation.Layout, error) {
	weights, err := objective.Federated(graph)
	if err != nil {
		return nil, nil, err
	}
	slices.SortFunc(weights, func(a, b *onnx.Tensor) int { return strings.Compare(a.Name, b.Name) })
	layout, err := federation.LayoutOf(weights)
	return weights, layout, err
}

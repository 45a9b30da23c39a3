package architecture

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"galley"
	"galley/onnx"
	"galley/onnx/session"
)

// sharedModel returns the path of a model in the shared data, or skips.
func sharedModel(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; filepath.Dir(dir) != dir; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			path := filepath.Join(dir, "..", "shared", "data", "models", name)
			if _, err := os.Stat(path); err != nil {
				t.Skipf("the shared data has no %s", name)
			}
			return path
		}
	}
	t.Skip("no go.mod above the test")
	return ""
}

// TestAdoptMiniLM puts a head on an exported encoder: its weights stay, its
// half-precision table is widened, and the logits are the head's product with
// the mean of the states.
func TestAdoptMiniLM(t *testing.T) {
	if testing.Short() {
		t.Skip("loads a model of 90 MB twice")
	}
	const table, classes, width = "bert.embeddings.word_embeddings.weight", 4, 384
	original, err := onnx.ReadFile(sharedModel(t, "all-minilm-l6-v2/model.onnx"), onnx.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	adopted, err := Adopt(original, AdoptOptions{Classes: classes, Dropout: 0.1, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	if got := original.Graph.Initializer(table).Type; got != onnx.Float16 {
		t.Fatalf("the original's table is %s now", got)
	}
	if got := adopted.Graph.Initializer(table).Type; got != onnx.Float {
		t.Errorf("the table is %s", got)
	}
	for _, w := range original.Graph.Initializers {
		values, _ := w.Floats()
		kept, ok := adopted.Graph.Initializer(w.Name).Floats()
		if !ok || len(kept) != len(values) {
			t.Fatalf("%s has %d of %d numbers", w.Name, len(kept), len(values))
		}
		for i := range values {
			if values[i] != kept[i] {
				t.Fatalf("%s[%d] is %v, was %v", w.Name, i, kept[i], values[i])
			}
		}
	}
	if out := adopted.Graph.Outputs; len(out) != 1 || out[0].Name != Logits || out[0].Shape.String() != "[batch,4]" {
		t.Errorf("outputs %v", out)
	}

	texts := [][]int32{{101, 7592, 2088, 102}, {101, 2307, 2739, 2005, 5347, 4599, 102}}
	inputs := batch(t, texts, 9)
	if inputs["token_type_ids"], err = session.Zeros[int64](2, 9); err != nil {
		t.Fatal(err)
	}
	logits := run(t, open(t, adopted), inputs, Logits)
	states := run(t, open(t, original), inputs, "last_hidden_state")
	weight, _ := adopted.Graph.Initializer("head.weight").Floats()
	for i, text := range texts {
		for c := range classes {
			want := 0.0
			for h := range width {
				mean := 0.0
				for s := range text {
					mean += float64(states[(i*9+s)*width+h]) / float64(len(text))
				}
				want += mean * float64(weight[h*classes+c])
			}
			if got := float64(logits[i*classes+c]); math.Abs(got-want) > 1e-4 {
				t.Errorf("text %d, class %d: %v, want %v", i, c, got, want)
			}
		}
	}
}

// outside builds a graph as exporters do: a table, looked up, as float.
func outside(table *onnx.Tensor, inputs ...string) *onnx.Model {
	b := onnx.NewBuilder(&onnx.Graph{Name: "outside"})
	shape := onnx.Shape{onnx.Symbol("batch"), onnx.Symbol("length")}
	for _, in := range inputs {
		b.Input(in, onnx.Int64, shape)
	}
	x := b.Op("Gather", b.Weight(table), inputs[0])
	if table.Type != onnx.Float {
		x = b.OpAttrs("Cast", map[string]onnx.Attr{"to": int64(onnx.Float)}, x)
	}
	b.Output(x, onnx.Float, onnx.Shape{onnx.Symbol("batch"), onnx.Symbol("length"), {Size: 4}})
	return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": Opset}, Graph: b.Graph}
}

func floatTable() *onnx.Tensor {
	values := make([]float32, 40*4)
	for i := range values {
		values[i] = float32(i%7) - 3
	}
	return onnx.NewFloat("table", values, 40, 4)
}

func TestAdoptWithNGrams(t *testing.T) {
	n := NGrams{Orders: 2, Buckets: 64, Width: 4}
	m, err := Adopt(outside(floatTable(), "input_ids", "attention_mask"), AdoptOptions{
		Classes: 3, NGrams: n, Weighing: weighing(n, 40), Seed: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := open(t, m).Run(context.Background(), batch(t, [][]int32{{class, 5, 6, separator}}, 6))
	if err != nil {
		t.Fatal(err)
	}
	if got := session.Data[float32](out[Logits]); len(got) != 3 || !HasBranches(m) {
		t.Errorf("logits %v", got)
	}
}

// TestAdoptAgain holds that a graph which was adopted before gets a new head in
// the old one's place, on the same features.
func TestAdoptAgain(t *testing.T) {
	many := NGrams{Orders: 2, Buckets: 64, Width: 4}
	for _, n := range [][2]NGrams{{{}, {}}, {many, many}, {many, {}}, {{}, many}} {
		first, err := Adopt(outside(floatTable(), "input_ids", "attention_mask"), AdoptOptions{
			Classes: 3, NGrams: n[0], Weighing: weighing(n[0], 40), Seed: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		again, err := Adopt(first, AdoptOptions{Classes: 5, NGrams: n[1], Weighing: weighing(n[1], 40), Seed: 2})
		if err != nil {
			t.Fatal(err)
		}
		whole, err := Adopt(outside(floatTable(), "input_ids", "attention_mask"), AdoptOptions{
			Classes: 5, NGrams: n[1], Weighing: weighing(n[1], 40), Seed: 2,
		})
		if err != nil {
			t.Fatal(err)
		}
		texts := batch(t, [][]int32{{class, 5, 6, separator}}, 6)
		got, want := run(t, open(t, again), texts, Logits), run(t, open(t, whole), texts, Logits)
		if !slices.Equal(got, want) || len(got) != 5 || len(again.Graph.Nodes) != len(whole.Graph.Nodes) {
			t.Errorf("%+v: adopted again it answers %v, at once %v", n, got, want)
		}
	}
}

// TestAdoptOwnNames holds that an outside graph may use the names of a head.
func TestAdoptOwnNames(t *testing.T) {
	m := outside(onnx.NewFloat("head.weight", make([]float32, 160), 40, 4), "input_ids", "attention_mask")
	if err := onnx.Rename(m.Graph, m.Graph.Outputs[0].Name, Logits); err != nil {
		t.Fatal(err)
	}
	adopted, err := Adopt(m, AdoptOptions{Classes: 3, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, open(t, adopted), batch(t, [][]int32{{class, 5, 6, separator}}, 6), Logits); len(got) != 3 {
		t.Errorf("logits %v", got)
	}
	if adopted.Graph.Initializer("outside.head.weight") == nil {
		t.Error("the table is gone")
	}
}

func TestAdoptRefuses(t *testing.T) {
	half := func() *onnx.Tensor {
		return &onnx.Tensor{Name: "table", Type: onnx.Float16, Dims: []int64{40, 4}, Data: make([]byte, 2*160)}
	}
	changed := func(m *onnx.Model, change func(*onnx.Model)) *onnx.Model {
		change(m)
		return m
	}
	plain := func() *onnx.Model { return outside(floatTable(), "input_ids", "attention_mask") }
	for name, c := range map[string]struct {
		m    *onnx.Model
		opts AdoptOptions
		want string
	}{
		"no mask":        {outside(floatTable(), "input_ids"), AdoptOptions{Classes: 2}, "attention_mask"},
		"unknown input":  {outside(floatTable(), "input_ids", "attention_mask", "pixels"), AdoptOptions{Classes: 2}, "pixels"},
		"another type":   {changed(plain(), func(m *onnx.Model) { m.Graph.Inputs[0].Type = onnx.Int32 }), AdoptOptions{Classes: 2}, "input_ids"},
		"no such value":  {plain(), AdoptOptions{Classes: 2, Features: "nowhere"}, "nowhere"},
		"ids as states":  {plain(), AdoptOptions{Classes: 2, Features: "input_ids"}, "input_ids"},
		"wrong n-grams":  {plain(), AdoptOptions{Classes: 2, NGrams: NGrams{Orders: 9}}, "orders"},
		"no states":      {changed(plain(), func(m *onnx.Model) { m.Graph.Outputs = m.Graph.Outputs[:0] }), AdoptOptions{Classes: 2}, "width"},
		"half precision": {changed(outside(half(), "input_ids", "attention_mask"), doubleHalf), AdoptOptions{Classes: 2}, "half precision"},
	} {
		_, err := Adopt(c.m, c.opts)
		if galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Adopt(outside(half(), "input_ids", "attention_mask"), AdoptOptions{Classes: 2}); err != nil {
		t.Errorf("a half-precision table that is only looked up: %v", err)
	}
}

// doubleHalf has the graph compute with its half-precision table.
func doubleHalf(m *onnx.Model) {
	b := onnx.NewBuilder(m.Graph)
	b.Op("Add", "table", "table")
}

package diff

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"galley"
	"galley/dataset"
	"galley/onnx"
	"galley/registry"
)

// net makes a graph of one layer.
func net(ops []string, tensors ...*onnx.Tensor) *onnx.Model {
	g := &onnx.Graph{
		Name: "net", Initializers: tensors,
		Inputs:  []onnx.Value{{Name: "x", Type: onnx.Float, Shape: onnx.Fixed(1, 2)}},
		Outputs: []onnx.Value{{Name: "y", Type: onnx.Float, Shape: onnx.Fixed(1, 2)}},
	}
	for _, op := range ops {
		g.Nodes = append(g.Nodes, &onnx.Node{Op: op})
	}
	return &onnx.Model{Opsets: map[string]int64{"": 17}, Graph: g}
}

func TestGraphs(t *testing.T) {
	a := net([]string{"MatMul", "Relu", "Relu"},
		onnx.NewFloat("same", []float32{1, 2}, 2), onnx.NewFloat("w", []float32{3, 4, 0, 0}, 2, 2), onnx.NewFloat("gone", []float32{1}, 1),
		onnx.NewFloat("grown", []float32{1}, 1), onnx.NewInt64("ids", []int64{1, 2, 3}, 3))
	b := net([]string{"MatMul", "Gelu", "Relu"},
		onnx.NewFloat("same", []float32{1, 2}, 2), onnx.NewFloat("w", []float32{3, 4, 3, -4}, 2, 2), onnx.NewFloat("new", []float32{1, 2, 3}, 3),
		onnx.NewFloat("grown", []float32{1, 1}, 2), onnx.NewInt64("ids", []int64{1, 7, 9}, 3))
	b.Opsets[""] = 20
	b.Graph.Outputs[0].Shape = onnx.Fixed(1, 3)
	g := Graphs(a, b)
	if g.Nodes != (Pair[int]{3, 3}) || g.Parameters != (Pair[int64]{11, 14}) {
		t.Errorf("%+v", g)
	}
	if want := []Count{{"Gelu", Pair[int]{0, 1}}, {"Relu", Pair[int]{2, 1}}}; !slices.Equal(g.Operators, want) {
		t.Errorf("operators %+v", g.Operators)
	}
	if len(g.Signature) != 2 || g.Signature[0].Name != "opset " || !strings.HasPrefix(g.Signature[1].Name, "output y") {
		t.Errorf("signature %+v", g.Signature)
	}
	w := g.Weights
	if w.Same != 1 || len(w.Changed) != 2 || w.Elements != 4 || w.Norm != 5 || w.Reference != math.Sqrt(30) {
		t.Errorf("%+v", w)
	}
	if c := w.Changed[0]; c.Name != "w" || c.Changed != 2 || c.Elements != 4 || c.Norm != 5 || c.Relative != 1 || c.Largest != 4 {
		t.Errorf("%+v", c)
	}
	if c := w.Changed[1]; c.Name != "ids" || c.Changed != 2 {
		t.Errorf("%+v", c)
	}
	if len(w.OnlyA) != 1 || w.OnlyA[0].Name != "gone" || len(w.OnlyB) != 1 || w.OnlyB[0].Name != "new" || len(w.Reshaped) != 1 || w.Reshaped[0].Name != "grown" {
		t.Errorf("%+v", w)
	}
}

// A graph does not differ from itself, and the difference is as far there as
// back.
func TestGraphsProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 50).Draw(t, "n")
		draw := func(name string) *onnx.Model {
			values := rapid.SliceOfN(rapid.Float32(), n, n).Draw(t, name)
			return net([]string{"MatMul"}, onnx.NewFloat("w", values, int64(n)))
		}
		a, b := draw("a"), draw("b")
		if w := Graphs(a, a).Weights; w.Same != 1 || len(w.Changed) != 0 || w.Norm != 0 {
			t.Fatalf("%+v", w)
		}
		there, back := Graphs(a, b).Weights, Graphs(b, a).Weights
		if there.Elements != back.Elements || there.Norm != back.Norm {
			t.Fatalf("%+v, back %+v", there, back)
		}
		if _, err := json.Marshal(there); err != nil {
			t.Fatal(err)
		}
	})
}

func TestVersions(t *testing.T) {
	v := func(number int, seed, digest string, accuracy float64) registry.Version {
		return registry.Version{
			Name: "news", Number: number, Digest: galley.Digest(digest), Task: "text-classification", Labels: []string{"money", "sport"},
			Artifacts: []registry.Artifact{{Path: "model.onnx", Digest: galley.Digest(digest)}, {Path: "galley.json", Digest: "sha256:0"}},
			Lineage: registry.Lineage{
				Spec:    json.RawMessage(`{"recipe":{"seed":` + seed + `,"epochs":2},"labels":[1,2]}`),
				Dataset: "headlines@1", Engine: "onnx", EngineVersion: "1.2",
			},
			Reports: []registry.ReportRef{
				{Dataset: "headlines@1", Split: "test", N: 9, Metrics: map[string]float64{"accuracy": .1}},
				{Dataset: "headlines@1", Split: "test", N: 9, Metrics: map[string]float64{"accuracy": accuracy}},
				{Dataset: "fresh.csv", N: 9, Metrics: map[string]float64{"accuracy": 1}},
			},
		}
	}
	a, b := v(1, "7", "sha256:a", .5), v(2, "8", "sha256:b", .75)
	b.Labels = []string{"money", "weather"}
	d := Versions(a, b)
	if d.Same || d.A.Ref != "news@1" || d.B.Ref != "news@2" || len(d.Lineage) != 0 {
		t.Errorf("%+v", d)
	}
	for name, got := range map[string][]Field{
		"files": d.Files, "labels": d.Labels, "spec": d.Spec,
	} {
		want := map[string]Field{
			"files": {"model.onnx", "sha256:a", "sha256:b"}, "labels": {"label    1", "sport", "weather"}, "spec": {"recipe.seed", "7", "8"},
		}[name]
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if want := (Metric{"headlines@1", "test", "accuracy", .5, .75, .25}); len(d.Metrics) != 1 || d.Metrics[0] != want {
		t.Errorf("%+v", d.Metrics)
	}
	if d := Versions(a, a); !d.Same || len(d.Files)+len(d.Spec)+len(d.Labels)+len(d.Lineage) != 0 {
		t.Errorf("%+v", d)
	}
	data, err := json.Marshal(d)
	if err != nil || !strings.HasPrefix(string(data), `{"a":{"ref":"news@1"`) {
		t.Errorf("%s %v", data, err)
	}
}

func TestData(t *testing.T) {
	m := func(rows int64, digest galley.Digest) *dataset.Manifest {
		return &dataset.Manifest{Splits: map[dataset.Split]dataset.SplitInfo{dataset.Train: {Rows: rows, Digest: digest}, dataset.Test: {Rows: 3, Digest: "sha256:t"}}}
	}
	if d := Data(m(5, "sha256:a"), m(6, "sha256:b")); len(d) != 2 || d[0] != (Field{"train digest", "sha256:a", "sha256:b"}) || d[1] != (Field{"train rows", "5", "6"}) {
		t.Errorf("%+v", d)
	}
	if d := Data(m(5, "a"), m(5, "a")); len(d) != 0 {
		t.Errorf("%+v", d)
	}
	if d := Data(nil, m(5, "a")); len(d) != 5 || d[1].A != "" {
		t.Errorf("%+v", d)
	}
}

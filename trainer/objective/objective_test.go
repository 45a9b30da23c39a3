package objective_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"galley"
	"galley/internal/ort/orttest"
	"galley/onnx"
	"galley/onnx/session"
	"galley/trainer"
	"galley/trainer/architecture"
	"galley/trainer/objective"
)

// logitsModel passes its input through as the logits.
func logitsModel(output string, shape onnx.Shape) *onnx.Model {
	b := onnx.NewBuilder(&onnx.Graph{Name: "logits"})
	in := b.Input("x", onnx.Float, shape)
	b.Graph.Nodes = append(b.Graph.Nodes, &onnx.Node{Name: "pass", Op: "Identity", Inputs: []string{in}, Outputs: []string{output}})
	b.Output(output, onnx.Float, shape)
	return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": architecture.Opset}, Graph: b.Graph}
}

// loss runs a graph with a loss.
func loss(t *testing.T, m *onnx.Model, inputs map[string]*session.Tensor) float64 {
	t.Helper()
	data, err := onnx.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	s, err := orttest.Opener(t).Open(t.Context(), data, session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.Run(t.Context(), inputs, objective.Loss)
	if err != nil {
		t.Fatal(err)
	}
	return float64(session.Data[float32](out[objective.Loss])[0])
}

func tensor[T session.Number](t *testing.T, data []T, shape ...int64) *session.Tensor {
	t.Helper()
	x, err := session.New(data, shape...)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func normal(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, 2))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(2 * r.NormFloat64())
	}
	return out
}

// logSoftmax is that of one row, in float64.
func logSoftmax(row []float32) []float64 {
	sum := 0.0
	for _, x := range row {
		sum += math.Exp(float64(x))
	}
	out := make([]float64, len(row))
	for i, x := range row {
		out[i] = float64(x) - math.Log(sum)
	}
	return out
}

// crossEntropy is the mean loss of weighted and smoothed labels, written out
// from the definition.
func crossEntropy(logits []float32, labels []int, c objective.Classes) float64 {
	n := len(c.Weights)
	total, mass := 0.0, 0.0
	for i, y := range labels {
		logp := logSoftmax(logits[i*n : (i+1)*n])
		total -= (1 - c.Smoothing) * c.Weights[y] * logp[y]
		for j := range n {
			total -= c.Smoothing / float64(n) * c.Weights[j] * logp[j]
		}
		mass += c.Weights[y]
	}
	return total / mass
}

func TestClassificationLoss(t *testing.T) {
	const rows, classes = 7, 4
	m, err := objective.Classification(logitsModel(architecture.Logits, onnx.Shape{onnx.Symbol("batch"), {Size: classes}}), 0.5)
	if err != nil {
		t.Fatal(err)
	}
	logits := normal(1, rows*classes)
	labels := []int{0, 3, 1, 1, 2, 0, 3}
	for _, c := range []objective.Classes{
		{Weights: []float64{1, 1, 1, 1}},
		{Weights: []float64{1, 1, 1, 1}, Smoothing: 0.1},
		{Weights: []float64{0.2, 3, 1, 0.5}},
		{Weights: []float64{0.2, 3, 0, 0.5}, Smoothing: 0.3},
	} {
		targets := make([]float32, rows*classes)
		c.Fill(targets, labels, c.Mass(labels))
		got := loss(t, m, map[string]*session.Tensor{
			"x": tensor(t, logits, rows, classes), objective.Targets: tensor(t, targets, rows, classes),
		})
		if want := crossEntropy(logits, labels, c); math.Abs(got-want) > 1e-6*want {
			t.Errorf("%+v: %v, want %v", c, got, want)
		}
	}
}

// TestBatchesOfAStep holds that the losses of a step's batches add up to that
// of all its rows at once.
func TestBatchesOfAStep(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 6).Draw(t, "classes")
		c := objective.Classes{
			Weights:   rapid.SliceOfN(rapid.Float64Range(0.1, 10), n, n).Draw(t, "weights"),
			Smoothing: rapid.Float64Range(0, 0.9).Draw(t, "smoothing"),
		}
		labels := rapid.SliceOfN(rapid.IntRange(0, n-1), 2, 20).Draw(t, "labels")
		cut := rapid.IntRange(1, len(labels)-1).Draw(t, "cut")
		mass := c.Mass(labels)
		whole, parts := make([]float32, n*len(labels)), make([]float32, n*len(labels))
		c.Fill(whole, labels, mass)
		c.Fill(parts[:cut*n], labels[:cut], mass)
		c.Fill(parts[cut*n:], labels[cut:], mass)
		if !slices.Equal(whole, parts) {
			t.Fatalf("%v in one, %v in two", whole, parts)
		}
	})
}

func TestMaskedLMLoss(t *testing.T) {
	const masked, vocabulary = 5, 11
	m, err := objective.MaskedLM(logitsModel(architecture.TokenLogits, onnx.Shape{onnx.Symbol("masked"), {Size: vocabulary}}))
	if err != nil {
		t.Fatal(err)
	}
	logits, targets := normal(2, masked*vocabulary), []int64{3, 0, 10, 3, 7}
	weights := []float32{0.2, 0.2, 0.1, 0, 0.5}
	want := 0.0
	for i, y := range targets {
		want -= float64(weights[i]) * logSoftmax(logits[i*vocabulary : (i+1)*vocabulary])[y]
	}
	got := loss(t, m, map[string]*session.Tensor{
		"x": tensor(t, logits, masked, vocabulary), objective.Targets: tensor(t, targets, masked), objective.Weights: tensor(t, weights, masked),
	})
	if math.Abs(got-want) > 1e-6*want {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestNewClasses(t *testing.T) {
	labels, counts := []string{"a", "b", "c"}, map[string]int64{"a": 10, "b": 30, "c": 20}
	weights := func(mode string, values map[string]float64) trainer.Recipe {
		return trainer.Recipe{LabelSmoothing: 0.1, ClassWeights: trainer.ClassWeights{Mode: mode, Values: values}}
	}
	given := map[string]float64{"a": 1, "b": 2, "c": 0.5}
	for _, c := range []struct {
		recipe trainer.Recipe
		want   []float64
	}{
		{weights("none", nil), []float64{1, 1, 1}},
		{weights("balanced", nil), []float64{2, 60.0 / 90, 1}},
		{weights("given", given), []float64{1, 2, 0.5}},
	} {
		got, err := objective.NewClasses(labels, counts, c.recipe)
		if err != nil || got.Smoothing != 0.1 || !slices.Equal(got.Weights, c.want) {
			t.Errorf("%s: %+v, %v", c.recipe.ClassWeights.Mode, got, err)
		}
	}
	// Weights follow the labels, in whatever order those come, and a class
	// without rows weighs nothing.
	turned := []string{"c", "empty", "a"}
	for mode, want := range map[string][]float64{"given": {0.5, 3, 1}, "balanced": {30.0 / 60, 0, 1}} {
		r := weights(mode, map[string]float64{"a": 1, "c": 0.5, "empty": 3})
		got, err := objective.NewClasses(turned, counts, r)
		if err != nil || !slices.Equal(got.Weights, want) {
			t.Errorf("%s, %v: %+v, %v", mode, turned, got, err)
		}
	}
	for name, values := range map[string]map[string]float64{
		`"c" has no weight`:  {"a": 1, "b": 2},
		`"d" is not a label`: {"a": 1, "b": 2, "c": 3, "d": 4},
	} {
		_, err := objective.NewClasses(labels, counts, weights("given", values))
		if galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRowsWithoutWeight(t *testing.T) {
	c := objective.Classes{Weights: []float64{0, 0}}
	targets := []float32{9, 9}
	c.Fill(targets, []int{1}, c.Mass([]int{1}))
	if targets[0] != 0 || targets[1] != 0 {
		t.Errorf("targets %v", targets)
	}
}

func TestRefusesOtherGraphs(t *testing.T) {
	flat := logitsModel(architecture.Logits, onnx.Shape{onnx.Symbol("batch")})
	other := logitsModel("scores", onnx.Shape{onnx.Symbol("batch"), {Size: 2}})
	if _, err := objective.Classification(flat, 0); galley.CodeOf(err) != galley.InvalidArgument {
		t.Errorf("logits of one dimension: %v", err)
	}
	if _, err := objective.Classification(other, 0); galley.CodeOf(err) != galley.InvalidArgument {
		t.Errorf("no logits: %v", err)
	}
	if _, err := objective.MaskedLM(other); galley.CodeOf(err) != galley.InvalidArgument {
		t.Errorf("no token logits: %v", err)
	}
}

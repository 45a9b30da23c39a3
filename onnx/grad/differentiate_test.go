package grad_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"galley"
	"galley/internal/ort/orttest"
	"galley/onnx"
	"galley/onnx/grad"
	"galley/onnx/session"
)

// tied is a table of 5 rows used as embedding and as decoder, a frozen scale
// and a weight that the loss does not depend on.
func tied(t *testing.T) *onnx.Model {
	t.Helper()
	g := &onnx.Graph{Name: "tied"}
	b := onnx.NewBuilder(g)
	ids := b.Input("ids", onnx.Int64, onnx.Shape{onnx.Symbol("n")})
	labels := b.Input("labels", onnx.Int64, onnx.Shape{onnx.Symbol("n")})
	values := make([]float32, 15)
	for i := range values {
		values[i] = float32(i%7)/3 - 1
	}
	table := b.Weight(onnx.NewFloat("table", values, 5, 3))
	scale := b.Weight(onnx.NewFloat("scale", []float32{1, 2, 3}, 3))
	b.Weight(onnx.NewFloat("unused", []float32{1}, 1))
	h := b.Op("Mul", b.Op("Gather", table, ids), scale)
	logits := b.Op("MatMul", h, b.OpAttrs("Transpose", attrs{"perm": []int64{1, 0}}, table))
	g.Nodes = append(g.Nodes, &onnx.Node{Op: "SoftmaxCrossEntropyLoss", Inputs: []string{logits, labels}, Outputs: []string{"loss"}})
	b.Output("loss", onnx.Float, onnx.Shape{})
	g.Nodes = append(g.Nodes, &onnx.Node{Op: "ArgMax", Inputs: []string{logits}, Outputs: []string{"best"}, Attrs: attrs{"axis": int64(1)}})
	return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": 20}, Graph: g}
}

func TestDifferentiate(t *testing.T) {
	m := tied(t)
	before, err := onnx.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	training, err := grad.Differentiate(m, grad.Options{
		Loss: "loss", Wrt: []string{"table", "unused"}, RowGradients: []string{"table"}, Outputs: []string{"best"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if after, _ := onnx.Marshal(m); !bytes.Equal(before, after) {
		t.Error("the given model was changed")
	}
	if !slices.Equal(training.Unreached, []string{"unused"}) {
		t.Errorf("unreached are %v", training.Unreached)
	}
	g := training.Gradients["table"]
	if g.Dense == "" || len(g.Rows) != 1 {
		t.Errorf("a tied table has dense and row gradients, not %+v", g)
	}
	var outputs, inputs []string
	for _, v := range training.Model.Graph.Outputs {
		outputs = append(outputs, v.Name)
	}
	for _, v := range training.Model.Graph.Inputs {
		inputs = append(inputs, v.Name)
	}
	if want := []string{"loss", g.Dense, g.Rows[0].Indices, g.Rows[0].Rows, "best"}; !slices.Equal(outputs, want) {
		t.Errorf("outputs are %v, want %v", outputs, want)
	}
	if want := []string{"ids", "labels", "table"}; !slices.Equal(inputs, want) {
		t.Errorf("inputs are %v, want %v", inputs, want)
	}
	if training.Model.Graph.Initializer("scale") == nil || training.Model.Graph.Initializer("unused") != nil {
		t.Error("frozen weights that are used stay, others go")
	}
}

// TestRepeatable runs a training graph with colliding indices several times
// on two threads: the gradients are the same bit for bit, rows or not.
func TestRepeatable(t *testing.T) {
	opener := orttest.Opener(t)
	for _, rows := range [][]string{nil, {"table"}} {
		training, err := grad.Differentiate(tied(t), grad.Options{Loss: "loss", Wrt: []string{"table", "scale"}, RowGradients: rows})
		if err != nil {
			t.Fatal(err)
		}
		data, err := onnx.Marshal(training.Model)
		if err != nil {
			t.Fatal(err)
		}
		s, err := opener.Open(context.Background(), data, session.Options{Threads: 2})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		const n = 4000
		ids, labels := make([]int64, n), make([]int64, n)
		for i := range n {
			ids[i], labels[i] = int64(i*i%5), int64(i*3%5)
		}
		idTensor, _ := session.New(ids, n)
		labelTensor, _ := session.New(labels, n)
		table, _ := tied(t).Graph.Initializer("table").Floats()
		tableTensor, _ := session.New(table, 5, 3)
		scaleTensor, _ := session.New([]float32{1, 2, 3}, 3)
		feeds := map[string]*session.Tensor{"ids": idTensor, "labels": labelTensor, "table": tableTensor, "scale": scaleTensor}
		var first map[string][]byte
		for range 5 {
			got, err := s.Run(context.Background(), feeds)
			if err != nil {
				t.Fatal(err)
			}
			bits := map[string][]byte{}
			for name, x := range got {
				bits[name] = bytes.Clone(x.Bytes())
				x.Close()
			}
			for name, b := range first {
				if !bytes.Equal(b, bits[name]) {
					t.Errorf("%s differs from run to run", name)
				}
			}
			first = bits
		}
	}
}

func TestDifferentiateErrors(t *testing.T) {
	conv := func() *onnx.Model {
		g := &onnx.Graph{Name: "conv"}
		b := onnx.NewBuilder(g)
		x := b.Input("x", onnx.Float, onnx.Fixed(1, 1, 4, 4))
		w := b.Weight(onnx.NewFloat("w", make([]float32, 9), 1, 1, 3, 3))
		y := b.OpAttrs("Conv", nil, x, w)
		loss := b.OpAttrs("ReduceMean", attrs{"keepdims": int64(0)}, y)
		b.Output(loss, onnx.Float, onnx.Shape{})
		return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": 20}, Graph: g}
	}
	rounded := tied(t)
	rounded.Graph.Nodes = append(rounded.Graph.Nodes,
		&onnx.Node{Name: "r", Op: "Round", Inputs: []string{"loss"}, Outputs: []string{"rounded"}})
	for _, c := range []struct {
		name  string
		model *onnx.Model
		opts  grad.Options
		code  galley.Code
		says  []string
	}{
		{"nothing", tied(t), grad.Options{Loss: "loss"}, galley.InvalidArgument, []string{"nothing to differentiate"}},
		{"unknown weight", tied(t), grad.Options{Loss: "loss", Wrt: []string{"tabel"}}, galley.InvalidArgument, []string{"tabel"}},
		{"twice", tied(t), grad.Options{Loss: "loss", Wrt: []string{"table", "table"}}, galley.InvalidArgument, []string{"twice"}},
		{"integers", tied(t), grad.Options{Loss: "loss", Wrt: []string{"ids"}}, galley.InvalidArgument, []string{"ids", "floating-point"}},
		{"rows of a frozen table", tied(t), grad.Options{Loss: "loss", Wrt: []string{"scale"}, RowGradients: []string{"table"}}, galley.InvalidArgument, []string{"table", "Wrt"}},
		{"unknown loss", tied(t), grad.Options{Loss: "lost", Wrt: []string{"table"}}, galley.InvalidArgument, []string{"lost"}},
		{"unknown output", tied(t), grad.Options{Loss: "loss", Wrt: []string{"table"}, Outputs: []string{"worst"}}, galley.InvalidArgument, []string{"worst"}},
		{"integer loss", tied(t), grad.Options{Loss: "best", Wrt: []string{"table"}}, galley.InvalidArgument, []string{"best"}},
		{"matrix as loss", tied(t), grad.Options{Loss: "Mul_out", Wrt: []string{"table"}}, galley.InvalidArgument, []string{"one element"}},
		{"independent", tied(t), grad.Options{Loss: "loss", Wrt: []string{"unused"}}, galley.InvalidArgument, []string{"depends on none"}},
		{"rounded", rounded, grad.Options{Loss: "rounded", Wrt: []string{"table"}}, galley.InvalidArgument, []string{"zero gradient"}},
		{"convolution", conv(), grad.Options{Loss: "ReduceMean_out", Wrt: []string{"w"}}, galley.Unimplemented, []string{"Conv", "freeze the convolutions"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := grad.Differentiate(c.model, c.opts)
			if galley.CodeOf(err) != c.code {
				t.Fatalf("error is %v with code %q, want %s", err, galley.CodeOf(err), c.code)
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error %q does not say %q", err, s)
				}
			}
		})
	}
}

func TestTrainingDropout(t *testing.T) {
	opener := orttest.Opener(t)
	g := &onnx.Graph{Name: "dropout"}
	b := onnx.NewBuilder(g)
	x := b.Input("x", onnx.Float, onnx.Shape{onnx.Symbol("n"), {Size: 2}})
	h := b.Op("Dropout", x, b.Float(0.25))
	h = b.Op("Dropout", b.Op("Mul", h, h), b.Float(0))
	b.Output(b.OpAttrs("ReduceSum", attrs{"keepdims": int64(0)}, h), onnx.Float, onnx.Shape{})
	m := &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": 20}, Graph: g}

	masked, masks, err := grad.TrainingDropout(m)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(masks); got != "[{dropout_mask_0 0.25 [n,2]}]" {
		t.Fatalf("masks are %v", got)
	}
	training, err := grad.Differentiate(masked, grad.Options{Loss: g.Outputs[0].Name, Wrt: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	s := openModel(t, opener, training.Model)
	defer s.Close()
	input, _ := session.New([]float32{1, 2, 3, 4}, 2, 2)
	mask, _ := session.New([]float32{0, 2, 2, 0}, 2, 2)
	got, err := s.Run(context.Background(), map[string]*session.Tensor{"x": input, "dropout_mask_0": mask})
	if err != nil {
		t.Fatal(err)
	}
	// d (m x)^2 / dx = 2 m^2 x
	if dx := fmt.Sprint(floats(got[training.Gradients["x"].Dense])); dx != "[0 16 24 0]" {
		t.Errorf("gradient is %v", dx)
	}

	for name, ratio := range map[string]float32{"one": 1, "negative": -0.5} {
		m := m.Clone()
		for _, w := range m.Graph.Initializers {
			if f, ok := w.Floats(); ok && f[0] == 0.25 {
				w.Data = onnx.NewFloat("", []float32{ratio}).Data
			}
		}
		if _, _, err := grad.TrainingDropout(m); galley.CodeOf(err) != galley.InvalidArgument {
			t.Errorf("ratio %s: error is %v", name, err)
		}
	}
}

// TestHalfWeights trains a weight stored in half precision as float.
func TestHalfWeights(t *testing.T) {
	build := func(cast bool) *onnx.Model {
		g := &onnx.Graph{Name: "half"}
		b := onnx.NewBuilder(g)
		ids := b.Input("ids", onnx.Int64, onnx.Fixed(2))
		b.Weight(&onnx.Tensor{Name: "table", Type: onnx.Float16, Dims: []int64{3, 1}, Data: make([]byte, 6)})
		h := b.Op("Gather", "table", ids)
		if !cast {
			h = b.Op("Mul", h, h)
		}
		h = b.OpAttrs("Cast", attrs{"to": int64(onnx.Float)}, h)
		b.Output(b.OpAttrs("ReduceSum", attrs{"keepdims": int64(0)}, h), onnx.Float, onnx.Shape{})
		return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": 20}, Graph: g}
	}
	training, err := grad.Differentiate(build(true), grad.Options{Loss: "ReduceSum_out", Wrt: []string{"table"}})
	if err != nil {
		t.Fatal(err)
	}
	s := openModel(t, orttest.Opener(t), training.Model)
	defer s.Close()
	ids, _ := session.New([]int64{2, 2}, 2)
	table, _ := session.New([]float32{1, 2, 3}, 3, 1)
	got, err := s.Run(context.Background(), map[string]*session.Tensor{"ids": ids, "table": table})
	if err != nil {
		t.Fatal(err)
	}
	if g := fmt.Sprint(floats(got["ReduceSum_out"]), floats(got[training.Gradients["table"].Dense])); g != "[6] [0 0 2]" {
		t.Errorf("loss and gradient are %v", g)
	}
	_, err = grad.Differentiate(build(false), grad.Options{Loss: "ReduceSum_out", Wrt: []string{"table"}})
	if galley.CodeOf(err) != galley.Unimplemented || !strings.Contains(err.Error(), "half precision") {
		t.Errorf("error is %v", err)
	}
}

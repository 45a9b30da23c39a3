package grad_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"galley/internal/ort/orttest"
	"galley/onnx"
	"galley/onnx/grad"
	"galley/onnx/session"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// A weight of the model that both sides build.
type namedMatrix struct {
	name       string
	rows, cols int
	data       []float64
}

func drawMatrices(rng *rand.Rand, list ...namedMatrix) []namedMatrix {
	for i, m := range list {
		list[i].data = make([]float64, m.rows*m.cols)
		for j := range list[i].data {
			list[i].data[j] = rng.NormFloat64() / math.Sqrt(float64(m.rows))
		}
	}
	return list
}

// compareGorgonia builds one model twice, from the same matrices, and
// compares loss and gradients. Scalar loss, double precision.
func compareGorgonia(t *testing.T, matrices []namedMatrix,
	ours func(b *onnx.Builder, in map[string]string) string,
	theirs func(in map[string]*G.Node) *G.Node) {
	t.Helper()
	opener := orttest.Opener(t)

	graph := G.NewGraph()
	nodes := map[string]*G.Node{}
	var learn G.Nodes
	for _, m := range matrices {
		value := tensor.New(tensor.WithShape(m.rows, m.cols), tensor.WithBacking(append([]float64{}, m.data...)))
		nodes[m.name] = G.NewMatrix(graph, tensor.Float64, G.WithShape(m.rows, m.cols), G.WithName(m.name), G.WithValue(value))
		learn = append(learn, nodes[m.name])
	}
	cost := theirs(nodes)
	if _, err := G.Grad(cost, learn...); err != nil {
		t.Fatal(err)
	}
	vm := G.NewTapeMachine(graph, G.BindDualValues(learn...))
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}

	g := &onnx.Graph{Name: "test"}
	b := onnx.NewBuilder(g)
	in, feeds := map[string]string{}, map[string]*session.Tensor{}
	var names []string
	for _, m := range matrices {
		in[m.name] = b.Input(m.name, onnx.Double, onnx.Fixed(int64(m.rows), int64(m.cols)))
		x, err := session.New(m.data, int64(m.rows), int64(m.cols))
		if err != nil {
			t.Fatal(err)
		}
		feeds[m.name] = x
		names = append(names, m.name)
	}
	loss := ours(b, in)
	b.Output(loss, onnx.Double, onnx.Shape{})
	model := &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": 20}, Graph: g}
	training, err := grad.Differentiate(model, grad.Options{Loss: loss, Wrt: names})
	if err != nil {
		t.Fatal(err)
	}
	s := openModel(t, opener, training.Model)
	defer s.Close()
	got, err := s.Run(context.Background(), feeds)
	if err != nil {
		t.Fatal(err)
	}
	if want := cost.Value().Data().(float64); math.Abs(floats(got[loss])[0]-want) > 1e-9*(1+math.Abs(want)) {
		t.Fatalf("loss is %v, Gorgonia has %v", floats(got[loss])[0], want)
	}
	for i, m := range matrices {
		value, err := learn[i].Grad()
		if err != nil {
			t.Fatal(err)
		}
		want := value.Data().([]float64)
		have := floats(got[training.Gradients[m.name].Dense])
		largest := 0.0
		for _, v := range want {
			largest = math.Max(largest, math.Abs(v))
		}
		for j := range want {
			if math.Abs(have[j]-want[j]) > 1e-9*largest {
				t.Fatalf("gradient of %s[%d] is %v, Gorgonia has %v", m.name, j, have[j], want[j])
			}
		}
	}
}

func TestPerceptronAgainstGorgonia(t *testing.T) {
	matrices := drawMatrices(rand.New(rand.NewPCG(1, 2)),
		namedMatrix{name: "x", rows: 5, cols: 7}, namedMatrix{name: "w1", rows: 7, cols: 6},
		namedMatrix{name: "w2", rows: 6, cols: 6}, namedMatrix{name: "w3", rows: 6, cols: 3})
	compareGorgonia(t, matrices,
		func(b *onnx.Builder, in map[string]string) string {
			h := b.Op("Tanh", b.Op("MatMul", in["x"], in["w1"]))
			h = b.Op("Sigmoid", b.Op("MatMul", h, in["w2"]))
			y := b.Op("MatMul", h, in["w3"])
			return b.OpAttrs("ReduceMean", attrs{"keepdims": int64(0)}, b.Op("Mul", y, y))
		},
		func(in map[string]*G.Node) *G.Node {
			h := G.Must(G.Tanh(G.Must(G.Mul(in["x"], in["w1"]))))
			h = G.Must(G.Sigmoid(G.Must(G.Mul(h, in["w2"]))))
			y := G.Must(G.Mul(h, in["w3"]))
			return G.Must(G.Mean(G.Must(G.Square(y))))
		})
}

func TestAttentionAgainstGorgonia(t *testing.T) {
	const length, width = 6, 4
	matrices := drawMatrices(rand.New(rand.NewPCG(3, 4)),
		namedMatrix{name: "x", rows: length, cols: width}, namedMatrix{name: "wq", rows: width, cols: width},
		namedMatrix{name: "wk", rows: width, cols: width}, namedMatrix{name: "wv", rows: width, cols: width},
		namedMatrix{name: "wo", rows: width, cols: width})
	scale := 1 / math.Sqrt(width)
	compareGorgonia(t, matrices,
		func(b *onnx.Builder, in map[string]string) string {
			q, k, v := b.Op("MatMul", in["x"], in["wq"]), b.Op("MatMul", in["x"], in["wk"]), b.Op("MatMul", in["x"], in["wv"])
			scalar := b.OpAttrs("Cast", attrs{"to": int64(onnx.Double)}, b.Weight(onnx.NewFloat("scale", []float32{float32(scale)})))
			scores := b.Op("Mul", b.Op("MatMul", q, b.OpAttrs("Transpose", attrs{"perm": []int64{1, 0}}, k)), scalar)
			y := b.Op("MatMul", b.OpAttrs("Softmax", attrs{"axis": int64(-1)}, scores), v)
			y = b.Op("Add", in["x"], b.Op("MatMul", y, in["wo"]))
			return b.OpAttrs("ReduceMean", attrs{"keepdims": int64(0)}, b.Op("Mul", y, y))
		},
		func(in map[string]*G.Node) *G.Node {
			q, k, v := G.Must(G.Mul(in["x"], in["wq"])), G.Must(G.Mul(in["x"], in["wk"])), G.Must(G.Mul(in["x"], in["wv"]))
			scores := G.Must(G.Mul(G.Must(G.Mul(q, G.Must(G.Transpose(k, 1, 0)))), G.NewConstant(float64(float32(scale)))))
			y := G.Must(G.Mul(G.Must(G.SoftMax(scores, 1)), v))
			y = G.Must(G.Add(in["x"], G.Must(G.Mul(y, in["wo"]))))
			return G.Must(G.Mean(G.Must(G.Square(y))))
		})
}

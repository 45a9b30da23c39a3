package quantize

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"galley"
	"galley/internal/ort/orttest"
	"galley/onnx"
	"galley/onnx/session"
)

// TestApply runs what each method makes in ONNX Runtime, beside the model it
// is made of.
func TestApply(t *testing.T) {
	text, image := textModel(), imageModel()
	float := map[*onnx.Model][]float32{text: answers(t, text, textBatches(t, 5)), image: answers(t, image, imageBatches(t, 5))}
	for name, c := range map[string]struct {
		model *onnx.Model
		o     Options
		nodes map[string]int
		sites int
		alike float64
	}{
		"dynamic":            {text, Options{Method: Dynamic}, map[string]int{"DynamicQuantizeLinear": 2, "MatMulInteger": 3, "Gather": 2, "MatMul": 0, "Gemm": 0}, 4, .999},
		"dynamic per tensor": {text, Options{Method: Dynamic, PerTensor: true, Narrow: true}, map[string]int{"MatMulInteger": 3, "Gather": 1}, 4, .998},
		"static":             {text, Options{Method: Static}, map[string]int{"QuantizeLinear": 2, "DequantizeLinear": 5, "MatMul": 1, "MatMulInteger": 1, "Gemm": 1}, 4, .999},
		"static symmetric":   {text, Options{Method: Static, SymmetricActivations: true, SignedActivations: true, PerTensor: true}, map[string]int{"QuantizeLinear": 2}, 4, .998},
		"static signed":      {text, Options{Method: Static, SignedActivations: true, FloatTables: true}, map[string]int{"QuantizeLinear": 2, "Gather": 1}, 3, .999},
		"weight-only":        {text, Options{Method: WeightOnly}, map[string]int{"MatMulNBits": 3}, 4, .99},
		"weight-only wide":   {text, Options{Method: WeightOnly, Asymmetric: true, Block: 64}, map[string]int{"MatMulNBits": 3}, 4, .99},
		"float16":            {text, Options{Method: Float16}, map[string]int{"Cast": 4, "MatMul": 2, "Gemm": 1}, 4, .99999},
		"left":               {text, Options{Method: Dynamic, Leave: map[string]bool{"logits": true}}, map[string]int{"MatMulInteger": 2, "Gemm": 1}, 3, .999},
		"convolution":        {image, Options{Method: Static}, map[string]int{"Conv": 2, "Relu": 1, "QuantizeLinear": 3}, 2, .999},
		"convolution coarse": {image, Options{Method: Static, PerTensor: true, SymmetricActivations: true, SignedActivations: true}, map[string]int{"Conv": 2}, 2, .99},
		"convolution half":   {image, Options{Method: Float16}, map[string]int{"Conv": 2, "Cast": 2}, 2, .99999},
	} {
		t.Run(name, func(t *testing.T) {
			batches := textBatches(t, 5)
			if c.model == image {
				batches = imageBatches(t, 5)
			}
			before, err := onnx.Marshal(c.model)
			if err != nil {
				t.Fatal(err)
			}
			q, result := quantized(t, c.model, c.o, batches, MinMax)
			if after, _ := onnx.Marshal(c.model); !slices.Equal(before, after) {
				t.Error("the model itself has changed")
			}
			data, err := onnx.Marshal(q)
			if err != nil {
				t.Fatal(err)
			}
			if q, err = onnx.Unmarshal(data, onnx.ReadOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := onnx.InferShapes(q); err != nil {
				t.Error(err)
			}
			if got := cosine(answers(t, q, batches), float[c.model]); got < c.alike {
				t.Errorf("the answers' cosine is %v", got)
			}
			got := count(q)
			for op, n := range c.nodes {
				if got[op] != n {
					t.Errorf("%d nodes %s, not %d: %v", got[op], op, n, got)
				}
			}
			if len(result.Sites) != c.sites || len(data) > len(before)*2/3 && c.o.Leave == nil && !c.o.FloatTables {
				t.Errorf("%d sites of %d, %d bytes of %d, left %v", len(result.Sites), c.sites, len(data), len(before), result.Left)
			}
			again, _ := quantized(t, c.model, c.o, batches, MinMax)
			if repeated, _ := onnx.Marshal(again); !slices.Equal(data, repeated) {
				t.Error("quantised again, the model is another")
			}
		})
	}
}

// TestHalfTables holds that a table stored in half precision, whose rows are
// made float behind the Gather, is quantised with the Cast.
func TestHalfTables(t *testing.T) {
	m, _ := quantized(t, textModel(), Options{Method: Float16}, nil, MinMax)
	q, _ := quantized(t, m, Options{Method: Dynamic}, nil, MinMax)
	if got := count(q); got["Gather"] != 2 || got["Cast"] != 4 || got["MatMulInteger"] != 3 {
		t.Errorf("%v", got)
	}
	if got := cosine(answers(t, q, textBatches(t, 3)), answers(t, textModel(), textBatches(t, 3))); got < .999 {
		t.Errorf("the answers' cosine is %v", got)
	}
}

// change makes a model of textModel.
func change(f func(g *onnx.Graph)) *onnx.Model {
	m := textModel()
	f(m.Graph)
	return m
}

func TestRefused(t *testing.T) {
	nan := func(name string) *onnx.Model {
		return change(func(g *onnx.Graph) {
			t := g.Initializer(name)
			copy(t.Data, []byte{0, 0, 0xc0, 0x7f})
		})
	}
	for name, c := range map[string]struct {
		m    *onnx.Model
		o    Options
		code galley.Code
		want string
	}{
		"no method":       {textModel(), Options{Method: "int3"}, galley.InvalidArgument, `method: "int3" is none — use dynamic, static, weight-only or float16`},
		"odd block":       {textModel(), Options{Method: WeightOnly, Block: 48}, galley.InvalidArgument, "48 is not a power of two"},
		"NaN":             {nan("query"), Options{Method: Dynamic}, galley.FailedPrecondition, `weight query: holds a number that is not finite`},
		"NaN in 4 bits":   {nan("key"), Options{Method: WeightOnly}, galley.FailedPrecondition, `weight key: holds a number that is not finite`},
		"NaN in half":     {nan("table"), Options{Method: Float16}, galley.FailedPrecondition, `weight table: holds a number that is not finite`},
		"no range":        {imageModel(), Options{Method: Static}, galley.FailedPrecondition, "no ranges of its input and output are known"},
		"convolutions":    {imageModel(), Options{Method: Dynamic}, galley.FailedPrecondition, "method: static quantises it"},
		"all left":        {textModel(), Options{Method: Float16, Leave: map[string]bool{"table": true, "query": true, "key": true, "up": true}}, galley.FailedPrecondition, "it was to stay float"},
		"nothing to do":   {&onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": 20}, Graph: &onnx.Graph{Name: "none"}}, Options{Method: Dynamic}, galley.FailedPrecondition, "no product or table with constant weights"},
		"another product": {change(func(g *onnx.Graph) { g.Nodes = g.Nodes[1:2]; g.Nodes[0].Op = "Conv" }), Options{Method: WeightOnly}, galley.FailedPrecondition, "there is no convolution over 4-bit weights"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Apply(c.m, c.o)
			if galley.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestLeft says why nodes stay float.
func TestLeft(t *testing.T) {
	for want, f := range map[string]func(g *onnx.Graph){
		"its weights stand on the left": func(g *onnx.Graph) { n := g.Nodes[1]; n.Inputs = []string{n.Inputs[1], n.Inputs[0]} },
		"it transposes its input":       func(g *onnx.Graph) { g.Nodes[len(g.Nodes)-1].Attrs["transA"] = int64(1) },
		"it scales its bias":            func(g *onnx.Graph) { g.Nodes[len(g.Nodes)-1].Attrs["beta"] = float32(3) },
		"it does not choose rows":       func(g *onnx.Graph) { g.Nodes[0].Attrs = map[string]onnx.Attr{"axis": int64(1)} },
		"the operator cannot be quantised": func(g *onnx.Graph) {
			g.Nodes[1].Op = "Einsum"
			g.Nodes[1].Attrs = map[string]onnx.Attr{"equation": "abc,cd->abd"}
		},
		"is not one of the standard":    func(g *onnx.Graph) { g.Nodes[1].Domain = "com.microsoft"; g.Nodes[1].Op = "FusedMatMul" },
		"a table of single numbers":     func(g *onnx.Graph) { g.Initializer("table").Dims = []int64{100 * width} },
		"its weights lie in a subgraph": func(g *onnx.Graph) { g.Nodes = append(g.Nodes, branches(g)) },
	} {
		t.Run(want, func(t *testing.T) {
			m := change(f)
			m.Opsets["com.microsoft"] = 1
			f := &finder{o: Options{Method: Dynamic}, types: &onnx.Types{}, constants: newConstants(m.Graph)}
			for _, n := range m.Graph.Nodes {
				f.node(n)
			}
			if !slices.ContainsFunc(f.left, func(l Left) bool { return strings.Contains(l.Why, want) }) {
				t.Errorf("%v", f.left)
			}
		})
	}
	huge := change(func(g *onnx.Graph) { copy(g.Initializer("query").Data, []byte{0, 0, 0x80, 0x48}) }) // 262144
	q, result := quantized(t, huge, Options{Method: Float16}, nil, MinMax)
	if len(result.Left) != 1 || result.Left[0].Name != "query" || result.Left[0].Why != "half precision ends at 65504" {
		t.Errorf("%v", result.Left)
	}
	if a, b := answers(t, q, textBatches(t, 2)), answers(t, huge, textBatches(t, 2)); cosine(a, b) < .9999 {
		t.Error("huge weights are lost")
	}
}

// branches is an If whose branches have weights.
func branches(g *onnx.Graph) *onnx.Node {
	branch := func() *onnx.Graph {
		sub := &onnx.Graph{Name: "branch", Initializers: []*onnx.Tensor{onnx.NewFloat("weights", make([]float32, least), least)}}
		sub.Outputs = []onnx.Value{{Name: "weights", Type: onnx.Float}}
		return sub
	}
	return &onnx.Node{Op: "If", Inputs: []string{"condition"}, Outputs: []string{"chosen"}, Attrs: map[string]onnx.Attr{"then_branch": branch(), "else_branch": branch()}}
}

// TestNothingToRepresent holds that weights and activations without a range
// give what they gave.
func TestNothingToRepresent(t *testing.T) {
	zero := change(func(g *onnx.Graph) {
		for _, name := range []string{"query", "key", "table"} {
			clear(g.Initializer(name).Data)
		}
	})
	want := answers(t, zero, textBatches(t, 2))
	for _, method := range Methods {
		q, _ := quantized(t, zero, Options{Method: method}, textBatches(t, 2), MSE)
		for i, x := range answers(t, q, textBatches(t, 2)) {
			if math.Abs(float64(x-want[i])) > 1e-2 {
				t.Fatalf("%s: %v, not %v", method, x, want[i])
			}
		}
	}
}

func TestCalibrateRefuses(t *testing.T) {
	m, o := textModel(), Options{Method: Static}
	sites, _, err := Find(m, o)
	if err != nil {
		t.Fatal(err)
	}
	values := Activations(m, sites)
	run := func(m *onnx.Model, n int, c Calibration) error {
		_, err := Calibrate(t.Context(), orttest.Opener(t), m, values, textBatches(t, n), c, o)
		return err
	}
	nan := change(func(g *onnx.Graph) { copy(g.Initializer("table").Data, []byte{0, 0, 0xc0, 0x7f}) })
	for want, err := range map[string]error{
		"calibration: there are no rows to calibrate with — choose a dataset": run(m, 0, Calibration{Search: MinMax}),
		"numbers that are not finite on the calibration rows":                 run(nan, 9, Calibration{Search: MSE}),
		`ranges: "best" is no way to find ranges`:                             run(m, 1, Calibration{Search: "best"}),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

// TestCalibrate compares min-max ranges with those of the values themselves,
// and holds that more batches of the same rows change nothing.
func TestCalibrate(t *testing.T) {
	m, o := textModel(), Options{Method: Static}
	sites, _, err := Find(m, o)
	if err != nil {
		t.Fatal(err)
	}
	values := Activations(m, sites)
	watched := m.Clone()
	watched.Graph.Outputs = []onnx.Value{{Name: values[0], Type: onnx.Float}}
	onnx.RemoveUnused(watched.Graph)
	all := answers(t, watched, textBatches(t, 7))
	for _, s := range Searches {
		ranges, err := Calibrate(t.Context(), orttest.Opener(t), m, values, textBatches(t, 7), Calibration{Search: s, Threads: 1}, o)
		if err != nil {
			t.Fatal(err)
		}
		if len(ranges) != 2 {
			t.Fatalf("%v", ranges)
		}
		want := Range{slices.Min(all), slices.Max(all)}
		if got := ranges[values[0]]; s == MinMax && got != want || got.Low < want.Low || got.High > want.High {
			t.Errorf("%s: %v of %v", s, got, want)
		}
		twice := func(yield func(map[string]*session.Tensor, error) bool) {
			for range 2 {
				for b, err := range textBatches(t, 7) {
					if !yield(b, err) {
						return
					}
				}
			}
		}
		again, err := Calibrate(t.Context(), orttest.Opener(t), m, values, twice, Calibration{Search: s, Threads: 1}, o)
		if err != nil || !maps.Equal(again, ranges) {
			t.Errorf("%s: %v, then %v %v", s, ranges, again, err)
		}
	}
}

// TestTied holds that a table which is a matrix as well, as it stands and
// transposed, is written once for each use.
func TestTied(t *testing.T) {
	m := textModel()
	b := onnx.NewBuilder(m.Graph)
	square := b.Weight(onnx.NewFloat("square", normal(rand.New(rand.NewPCG(3, 3)), width*width, .1), width, width))
	ids := b.Op("Mod", "ids", b.Int(width))
	rows := b.OpAttrs("ReduceMean", map[string]onnx.Attr{"keepdims": int64(0)}, b.Op("Gather", square, ids), b.Ints(1))
	x := b.Op("Add", b.Op("MatMul", rows, square), b.Op("MatMul", rows, b.OpAttrs("Transpose", nil, square)))
	b.Output(x, onnx.Float, nil)
	want := answers(t, m, textBatches(t, 3))
	for _, method := range Methods {
		q, result := quantized(t, m, Options{Method: method}, textBatches(t, 3), MinMax)
		if got := cosine(answers(t, q, textBatches(t, 3)), want); got < .99 || method != Float16 && len(result.Sites) != 7 {
			t.Errorf("%s: cosine %v, %d places, left %v", method, got, len(result.Sites), result.Left)
		}
	}
}

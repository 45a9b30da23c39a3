package quantize

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"galley"
	"galley/internal/ort/orttest"
	"galley/onnx"
	"galley/onnx/session"
)

// floats lists the values of a graph that are known to be float32, without its
// constants.
func floats(t *testing.T, m *onnx.Model) []string {
	t.Helper()
	types, err := onnx.InferShapes(m)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, v := range types.Values() {
		if _, constant := types.Constant(v.Name); v.Type == onnx.Float && !constant {
			out = append(out, v.Name)
		}
	}
	return out
}

// TestExtremes holds that ranges found in the graph are, bit for bit, those of a
// pass over its values.
func TestExtremes(t *testing.T) {
	opener := orttest.Opener(t)
	zeros := func(yield func(map[string]*session.Tensor, error) bool) { // all that comes of them is 0 or -0
		yield(map[string]*session.Tensor{"image": tensor(t, make([]float32, 2*16*64), 2, 16, 8, 8)}, nil)
	}
	for name, c := range map[string]struct {
		model   *onnx.Model
		batches Batches
		least   int // values
	}{
		"text":   {textModel(), textBatches(t, 5), 7},
		"image":  {imageModel(), imageBatches(t, 3), 4},
		"zeros":  {imageModel(), zeros, 4},
		"opset9": {oldModel(), imageBatches(t, 3), 3},
	} {
		t.Run(name, func(t *testing.T) {
			values := floats(t, c.model)
			if len(values) < c.least {
				t.Fatalf("values are %v", values)
			}
			ranges, ok, err := extremes(t.Context(), opener, c.model, values, c.batches, 1)
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			histograms, err := observe(t.Context(), opener, c.model, values, c.batches, Calibration{Search: MinMax, Threads: 1})
			if err != nil {
				t.Fatal(err)
			}
			for _, value := range values {
				got, want := ranges[value], histograms[value].Range
				if math.Float32bits(got.Low) != math.Float32bits(want.Low) || math.Float32bits(got.High) != math.Float32bits(want.High) {
					t.Errorf("%s: %v, not %v", value, got, want)
				}
			}
		})
	}
}

// oldModel is a chain in the form before axes were inputs.
func oldModel() *onnx.Model {
	g := &onnx.Graph{Name: "old"}
	b := onnx.NewBuilder(g)
	x := b.Input("image", onnx.Float, onnx.Shape{onnx.Symbol("batch"), {Size: 16}, {Size: 8}, {Size: 8}})
	x = b.Op("Sub", b.Op("Tanh", x), b.Op("Sigmoid", x))
	b.Output(x, onnx.Float, nil)
	return &onnx.Model{IRVersion: 4, Opsets: map[string]int64{"": 9}, Graph: g}
}

// damagedModel adds one number to a product's rows and hands them to what may
// swallow it.
func damagedModel(op string) *onnx.Model {
	g := &onnx.Graph{Name: "damaged"}
	b := onnx.NewBuilder(g)
	x := b.Input("x", onnx.Float, onnx.Shape{onnx.Symbol("batch"), {Size: width}})
	r := rand.New(rand.NewPCG(3, 3))
	y := b.Op("MatMul", x, b.Weight(onnx.NewFloat("first", normal(r, width*width, .1), width, width)))
	b.Op("Add", y, b.Input("add", onnx.Float, onnx.Shape{onnx.Symbol("batch"), {Size: width}}))
	g.Nodes[len(g.Nodes)-1].Outputs[0] = "sum"
	y = b.Op(op, "sum")
	y = b.Op("MatMul", y, b.Weight(onnx.NewFloat("second", normal(r, width*width, .1), width, width)))
	b.Output(y, onnx.Float, nil)
	return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": 17}, Graph: g}
}

// TestCalibrateNotFinite holds that a number that is not finite is found and
// counted wherever it is among others, also by the search that looks at no
// values, and in values that what follows hides.
func TestCalibrateNotFinite(t *testing.T) {
	const rows = 3
	opener := orttest.Opener(t)
	run := func(m *onnx.Model, values []string, add []float32) (map[string]Range, error) {
		r := rand.New(rand.NewPCG(4, 4))
		return Calibrate(t.Context(), opener, m, values, func(yield func(map[string]*session.Tensor, error) bool) {
			for _, a := range [][]float32{make([]float32, rows*width), add} {
				if !yield(map[string]*session.Tensor{"x": tensor(t, normal(r, rows*width, 1), rows, width), "add": tensor(t, a, rows, width)}, nil) {
					return
				}
			}
		}, Calibration{Search: MinMax, Threads: 1}, Options{Method: Static})
	}
	bad := map[string]float32{"NaN": float32(math.NaN()), "infinity": float32(math.Inf(1)), "-infinity": float32(math.Inf(-1))}
	for _, op := range []string{"Relu", "Softmax", "Sigmoid"} {
		m := damagedModel(op)
		for name, x := range bad {
			for _, at := range []int{0, 1, 7, 8, width - 1, rows*width/2 + 5, rows*width - 1} {
				t.Run(fmt.Sprint(op, " ", name, " ", at), func(t *testing.T) {
					add := make([]float32, rows*width)
					add[at] = x
					for _, values := range [][]string{{"sum"}, {"add", "sum"}} {
						_, err := run(m, values, add)
						if galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), "value "+values[0]+": has 1 numbers that are not finite") {
							t.Errorf("%s: %v", values, err)
						}
					}
				})
			}
		}
		// Numbers whose sum alone is not finite have a range.
		add := make([]float32, rows*width)
		for i := range add {
			add[i] = math.MaxFloat32 / 2
		}
		got, err := run(m, []string{"add", "sum"}, add)
		if err != nil || got["add"] != (Range{0, math.MaxFloat32 / 2}) || got["sum"].High < math.MaxFloat32/2 {
			t.Errorf("%s: %v %v", op, got, err)
		}
	}
}

package grad_test

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"galley/onnx"
	"galley/onnx/grad"
	"galley/onnx/session"
)

// A reporter is what the checks need of a test: *testing.T or *rapid.T.
type reporter interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// TestMain fixes the seed and the number of the random cases.
func TestMain(m *testing.M) {
	flag.Parse()
	for name, value := range map[string]string{"rapid.seed": "20261121", "rapid.checks": "10", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// A domain is where random operands are drawn from, so that finite
// differences do not step over a kink or a pole.
type domain int

const (
	anywhere    domain = iota // [-2, 2]
	offZero                   // [-2, -0.3] and [0.3, 2]
	positive                  // [0.3, 2]
	distinct                  // all differ by at least 0.1
	probability               // [0.1, 0.9]
)

func (d domain) draw(rng *rand.Rand, n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		u := rng.Float64()
		switch d {
		case anywhere:
			x[i] = 4*u - 2
		case offZero:
			x[i] = 0.3 + 1.7*u
			if rng.IntN(2) == 0 {
				x[i] = -x[i]
			}
		case positive:
			x[i] = 0.3 + 1.7*u
		case distinct:
			x[i] = 0.1*float64(i) - 1 + 0.02*u
		case probability:
			x[i] = 0.1 + 0.8*u
		}
	}
	if d == distinct {
		rng.Shuffle(n, func(i, j int) { x[i], x[j] = x[j], x[i] })
	}
	return x
}

// An operand is a floating-point input of the graph under test.
type operand struct {
	dims   []int64
	domain domain
	fixed  bool // no gradient is asked for
}

// How the graph declares the shapes of its inputs.
type declaration int

const (
	undeclared declaration = iota // drawn at random
	fixedSizes
	symbols // equal sizes have one symbol
	unnamed // only the rank is known
)

// A fixture is a graph whose gradients are compared with central finite
// differences of the graph itself.
type fixture struct {
	operands []operand
	build    func(b *onnx.Builder, in []string) string
	typ      onnx.DataType // Double unless set
	declare  declaration
	opset    int64 // 21 unless set
	eps, tol float64
	rows     bool // the first operand's Gather gradients leave as rows
}

func size(dims []int64) int {
	n := 1
	for _, d := range dims {
		n *= int(d)
	}
	return n
}

func (f *fixture) shape(dims []int64) onnx.Shape {
	s := onnx.Shape{}
	for _, d := range dims {
		switch f.declare {
		case fixedSizes:
			s = append(s, onnx.Dim{Size: d})
		case symbols:
			s = append(s, onnx.Symbol(fmt.Sprint("d", d)))
		default:
			s = append(s, onnx.Dim{Size: -1})
		}
	}
	return s
}

func (f *fixture) tensor(t reporter, x []float64, dims []int64) *session.Tensor {
	t.Helper()
	var out *session.Tensor
	var err error
	if f.typ == onnx.Double {
		out, err = session.New(x, dims...)
	} else {
		y := make([]float32, len(x))
		for i, v := range x {
			y[i] = float32(v)
		}
		out, err = session.New(y, dims...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func floats(t *session.Tensor) []float64 {
	if x := session.Data[float64](t); x != nil {
		return x
	}
	var out []float64
	for _, v := range session.Data[float32](t) {
		out = append(out, float64(v))
	}
	return out
}

func openModel(t reporter, opener session.Opener, m *onnx.Model) session.Session {
	t.Helper()
	if err := onnx.Check(m); err != nil {
		t.Fatalf("check: %v", err)
	}
	data, err := onnx.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	s, err := opener.Open(context.Background(), data, session.Options{Threads: 1, NoMemoryPattern: true})
	if err != nil {
		t.Fatalf("open: %v\n%s", err, listing(m))
	}
	return s
}

// listing writes a graph's nodes, for a failing test.
func listing(m *onnx.Model) string {
	out := ""
	for _, n := range m.Graph.Nodes {
		out += fmt.Sprintln(n.Outputs, "=", n.Op, n.Inputs)
	}
	return out
}

// check compares gradients with finite differences, weighting the elements of
// the result with fixed random numbers to get a loss.
func (f *fixture) check(t reporter, opener session.Opener, rng *rand.Rand) {
	t.Helper()
	if f.typ == onnx.Undefined {
		f.typ = onnx.Double
	}
	if f.opset == 0 {
		f.opset = 21
	}
	if f.eps == 0 {
		f.eps, f.tol = 1e-5, 1e-6
		if f.typ == onnx.Float {
			f.eps, f.tol = 1e-2, 1e-2
		}
	}
	g := &onnx.Graph{Name: "test"}
	b := onnx.NewBuilder(g)
	var names, wrt []string
	feeds := map[string]*session.Tensor{}
	values := map[string][]float64{}
	for i, o := range f.operands {
		name := b.Input(fmt.Sprint("x", i), f.typ, f.shape(o.dims))
		names = append(names, name)
		values[name] = o.domain.draw(rng, size(o.dims))
		feeds[name] = f.tensor(t, values[name], o.dims)
		if !o.fixed {
			wrt = append(wrt, name)
		}
	}
	y := f.build(b, names)
	m := &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": f.opset, "com.microsoft": 1}, Graph: g}

	// The weights' shape is that of y, found by running the graph once.
	b.Output(y, f.typ, nil)
	first := openModel(t, opener, m)
	defer first.Close()
	found, err := first.Run(context.Background(), feeds)
	if err != nil {
		t.Fatalf("forward: %v\n%s", err, listing(m))
	}
	dims := found[y].Shape
	g.Outputs = nil
	weights := b.Input("weights", f.typ, f.shape(dims))
	feeds["weights"] = f.tensor(t, anywhere.draw(rng, size(dims)), dims)
	loss := b.OpAttrs("ReduceSum", map[string]onnx.Attr{"keepdims": int64(0)}, b.Op("Mul", y, weights))
	b.Output(loss, f.typ, onnx.Shape{})
	forward := openModel(t, opener, m)
	defer forward.Close()

	opts := grad.Options{Loss: loss, Wrt: wrt}
	if f.rows {
		opts.RowGradients = names[:1]
	}
	training, err := grad.Differentiate(m, opts)
	if err != nil {
		t.Fatalf("differentiate: %v", err)
	}
	backward := openModel(t, opener, training.Model)
	defer backward.Close()
	got, err := backward.Run(context.Background(), feeds)
	if err != nil {
		t.Fatalf("training graph: %v\n%s", err, listing(training.Model))
	}
	at := func() float64 {
		out, err := forward.Run(context.Background(), feeds, loss)
		if err != nil {
			t.Fatalf("forward: %v", err)
		}
		return floats(out[loss])[0]
	}
	for i, o := range f.operands {
		name := names[i]
		if o.fixed {
			continue
		}
		g := dense(t, training.Gradients[name], got, o.dims)
		x := values[name]
		for j := range x {
			centre := x[j]
			x[j] = centre + f.eps
			feeds[name] = f.tensor(t, x, o.dims)
			up := at()
			x[j] = centre - f.eps
			feeds[name] = f.tensor(t, x, o.dims)
			down := at()
			x[j] = centre
			feeds[name] = f.tensor(t, x, o.dims)
			want := (up - down) / (2 * f.eps)
			if !(math.Abs(g[j]-want) <= f.tol*(1+math.Abs(want))) {
				t.Fatalf("gradient of %s%v[%d] is %v, finite differences say %v\n%s", name, o.dims, j, g[j], want, listing(training.Model))
			}
		}
	}
}

// dense adds up a gradient and checks its shapes.
func dense(t reporter, g grad.Gradient, got map[string]*session.Tensor, dims []int64) []float64 {
	t.Helper()
	sum := make([]float64, size(dims))
	if g.Dense != "" {
		if fmt.Sprint(got[g.Dense].Shape) != fmt.Sprint(dims) {
			t.Fatalf("gradient %s has shape %v, want %v", g.Dense, got[g.Dense].Shape, dims)
		}
		for i, v := range floats(got[g.Dense]) {
			sum[i] += v
		}
	}
	for _, r := range g.Rows {
		width := size(dims[1:])
		rows := floats(got[r.Rows])
		for i, row := range session.Data[int64](got[r.Indices]) {
			for k := range width {
				sum[int(row)*width+k] += rows[i*width+k]
			}
		}
	}
	return sum
}

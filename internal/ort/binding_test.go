package ort_test

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"galley"
	"galley/internal/ort/orttest"
	"galley/onnx"
	"galley/onnx/session"
)

func bind(t testing.TB, s session.Session) session.Binding {
	t.Helper()
	b, err := s.Bind()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What is written into bound memory between two runs is what the next reads.
func TestBindingReadsAndWritesInPlace(t *testing.T) {
	b := bind(t, open(t, sum(t)))
	x, y, z := make([]float32, 6), make([]float32, 6), make([]float32, 6)
	must(t, b.Input("x", tensor(t, x, 2, 3)), b.Input("y", tensor(t, y, 2, 3)), b.Output("z", tensor(t, z, 2, 3)))
	for step := range 20 {
		for i := range x {
			x[i], y[i] = float32(step), float32(i)
		}
		must(t, b.Run(ctx))
		runtime.GC()
		for i := range z {
			if z[i] != float32(step+i) {
				t.Fatalf("step %d: got %v", step, z)
			}
		}
	}
	// Bound anew, to another shape.
	x, z = []float32{1, 2, 3}, make([]float32, 3)
	must(t, b.Input("x", tensor(t, x, 1, 3)), b.Input("y", tensor(t, x, 1, 3)), b.Output("z", tensor(t, z, 1, 3)), b.Run(ctx))
	if !slices.Equal(z, []float32{2, 4, 6}) {
		t.Errorf("got %v", z)
	}
}

func TestBindingWithAutomaticOutputs(t *testing.T) {
	b := bind(t, open(t, nonZero(t)))
	d := make([]float32, 4)
	must(t, b.Output("d", tensor(t, d, 4)), b.OutputAuto("i"))
	for _, c := range []struct {
		x    []float32
		want []int64
	}{{[]float32{0, 1, 0, 1}, []int64{1, 3}}, {[]float32{1, 1, 1, 1}, []int64{0, 1, 2, 3}}, {make([]float32, 4), nil}} {
		must(t, b.Input("x", tensor(t, c.x, 4)), b.Run(ctx))
		for range 2 { // the second time from memory
			i, err := b.Fetch("i")
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(i.Shape, []int64{1, int64(len(c.want))}) || !slices.Equal(session.Data[int64](i), c.want) {
				t.Errorf("%v: got %v %v", c.x, i.Shape, session.Data[int64](i))
			}
		}
		for j := range d {
			if d[j] != 2*c.x[j] {
				t.Errorf("%v: got %v", c.x, d)
			}
		}
	}
	// Automatic now, of any size.
	must(t, b.OutputAuto("d"), b.Input("x", tensor(t, []float32{3, 0}, 2)), b.Run(ctx))
	got, err := b.Fetch("d")
	if err != nil || !slices.Equal(session.Data[float32](got), []float32{6, 0}) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestBindingOfStrings(t *testing.T) {
	b := bind(t, open(t, identity(t, onnx.String, onnx.Shape{rows})))
	x, err := session.NewStrings([]string{"a", "b\x00c"}, 2)
	must(t, err, b.Input("x", x), b.OutputAuto("y"), b.Run(ctx))
	y, err := b.Fetch("y")
	if err != nil || !slices.Equal(y.Strings(), x.Strings()) {
		t.Errorf("got %v, %v", y, err)
	}
	if err := b.Output("y", x); galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(err.Error(), "OutputAuto") {
		t.Errorf("binding strings to memory: %v", err)
	}
}

func TestBindingRefuses(t *testing.T) {
	b := bind(t, open(t, sum(t)))
	x := tensor(t, []float32{1, 2, 3}, 1, 3)
	want := func(err error, code galley.Code, words string) {
		t.Helper()
		if galley.CodeOf(err) != code || !strings.Contains(err.Error(), words) {
			t.Errorf("got %v, want %s and %q", err, code, words)
		}
	}
	want(b.Input("q", x), galley.InvalidArgument, `input "q" of test`)
	want(b.Input("x", nil), galley.InvalidArgument, `input "x" of test`)
	want(b.Input("x", tensor(t, []int64{1, 2, 3}, 1, 3)), galley.InvalidArgument, "got int64 [1 3], want float [n,3]")
	want(b.Output("q", x), galley.InvalidArgument, `output "q" of test`)
	want(b.Output("z", tensor(t, []float32{1}, 1, 1)), galley.InvalidArgument, "want float [n,3]")
	want(b.OutputAuto("q"), galley.InvalidArgument, `output "q" of test`)
	want(b.Run(ctx), galley.InvalidArgument, "not fed: x float [n,3], y float [n,3]")
	must(t, b.Input("x", x), b.Input("y", x))
	want(b.Run(ctx), galley.InvalidArgument, "no output is bound")
	_, err := b.Fetch("z")
	want(err, galley.FailedPrecondition, "not bound with OutputAuto")
	must(t, b.OutputAuto("z"))
	_, err = b.Fetch("z")
	want(err, galley.FailedPrecondition, "no run")
	// Memory of another size than the output turns out to have.
	must(t, b.Output("z", tensor(t, make([]float32, 6), 2, 3)))
	if err := b.Run(ctx); err == nil {
		t.Error("an output of the wrong size is written")
	}
	must(t, b.Close(), b.Close())
	want(b.Run(ctx), galley.FailedPrecondition, "closed")
	want(b.Input("x", x), galley.FailedPrecondition, "closed")
}

// A binding keeps its session's memory, also one that its owner forgets.
func TestBindingOutlivesClose(t *testing.T) {
	r := orttest.Runtime(t)
	before := r.Account()
	s, err := r.Open(ctx, sum(t), session.Options{Threads: 1})
	must(t, err)
	x, z := tensor(t, []float32{1, 2, 3}, 1, 3), make([]float32, 3)
	func() {
		b, err := s.Bind()
		must(t, err, b.Input("x", x), b.Input("y", x), b.Output("z", tensor(t, z, 1, 3)), s.Close(), b.Run(ctx))
	}()
	if z[2] != 6 {
		t.Errorf("got %v", z)
	}
	for deadline := time.Now().Add(5 * time.Second); r.Account() != before; {
		if time.Now().After(deadline) {
			t.Fatalf("account %+v, before %+v", r.Account(), before)
		}
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
}

func BenchmarkRun(b *testing.B) {
	s := open(b, sum(b))
	x := tensor(b, make([]float32, 96), 32, 3)
	b.Run("run", func(b *testing.B) {
		for b.Loop() {
			out, err := s.Run(ctx, feeds{"x": x, "y": x})
			if err != nil {
				b.Fatal(err)
			}
			out["z"].Close()
		}
	})
	b.Run("binding", func(b *testing.B) {
		binding := bind(b, s)
		must(b, binding.Input("x", x), binding.Input("y", x), binding.Output("z", tensor(b, make([]float32, 96), 32, 3)))
		for b.Loop() {
			must(b, binding.Run(b.Context()))
		}
	})
}

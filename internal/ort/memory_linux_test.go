package ort_test

import (
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
	"testing"

	"galley/internal/ort/orttest"
	"galley/onnx"
	"galley/onnx/session"
)

// resident reads how much memory the process has.
func resident(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip(err)
	}
	pages, err := strconv.Atoi(string(bytes.Fields(data)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// The memory of a session that was used goes back to the system.
func TestClosedSessionsGiveTheirMemoryBack(t *testing.T) {
	r := orttest.Runtime(t)
	const width = 2048
	model := graph(t, func(b *onnx.Builder) {
		x := b.Input("x", onnx.Float, onnx.Shape{rows, {Size: width}})
		for range 3 {
			x = b.Op("MatMul", x, b.Weight(onnx.NewFloat(b.Name("w"), make([]float32, width*width), width, width)))
		}
		b.Output(x, onnx.Float, onnx.Shape{rows, {Size: width}})
	})
	use := func() {
		s, err := r.Open(ctx, model, session.Options{Threads: 1, NoSpinning: true})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		out, err := s.Run(ctx, feeds{"x": tensor(t, make([]float32, 512*width), 512, width)})
		if err != nil {
			t.Fatal(err)
		}
		for _, y := range out {
			y.Close()
		}
	}
	give := func() int {
		r.Trim()
		debug.FreeOSMemory()
		return resident(t)
	}
	use() // what the library keeps for good
	before := give()
	for range 3 {
		use()
	}
	after := give()
	t.Logf("%d MiB before, %d MiB after three sessions of 48 MiB weights", before>>20, after>>20)
	if grown := after - before; grown > 8<<20 {
		t.Errorf("%d bytes did not come back", grown)
	}
}

// A scalar has a shape, of no dimensions; a tensor of any shape has none.
func TestScalarsHaveAShape(t *testing.T) {
	s := open(t, graph(t, func(b *onnx.Builder) {
		b.Output(b.Op("Identity", b.Input("scalar", onnx.Float, onnx.Shape{})), onnx.Float, onnx.Shape{})
		b.Output(b.Op("Identity", b.Input("any", onnx.Float, nil)), onnx.Float, nil)
	}))
	if in := s.Inputs(); in[0].Shape == nil || len(in[0].Shape) != 0 || in[1].Shape != nil {
		t.Errorf("inputs %#v", in)
	}
	out, err := s.Run(ctx, feeds{"scalar": tensor(t, []float32{1}), "any": tensor(t, []float32{1, 2}, 2)})
	if err != nil {
		t.Fatal(err)
	}
	for _, y := range out {
		y.Close()
	}
	if _, err := s.Run(ctx, feeds{"scalar": tensor(t, []float32{1}, 1), "any": tensor(t, []float32{1, 2}, 2)}); err == nil {
		t.Error("a vector of one is taken for a scalar")
	}
}

package ort_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"galley"
	"galley/internal/ort"
	"galley/internal/ort/orttest"
	"galley/onnx"
	"galley/onnx/session"
)

var ctx = context.Background()

func TestRun(t *testing.T) {
	s := open(t, sum(t))
	want := []onnx.Value{
		{Name: "x", Type: onnx.Float, Shape: onnx.Shape{rows, {Size: 3}}},
		{Name: "y", Type: onnx.Float, Shape: onnx.Shape{rows, {Size: 3}}},
	}
	if !reflect.DeepEqual(s.Inputs(), want) {
		t.Errorf("inputs %v, want %v", s.Inputs(), want)
	}
	if got := s.Outputs(); len(got) != 1 || got[0].Name != "z" {
		t.Errorf("outputs %v", got)
	}
	for _, n := range []int64{1, 2, 0, 5} {
		x := tensor(t, slices.Repeat([]float32{1, 2, 3}, int(n)), n, 3)
		out, err := s.Run(ctx, feeds{"x": x, "y": x})
		if err != nil {
			t.Fatal(err)
		}
		z := out["z"]
		if !slices.Equal(z.Shape, []int64{n, 3}) || !slices.Equal(session.Data[float32](z), slices.Repeat([]float32{2, 4, 6}, int(n))) {
			t.Errorf("%d rows: got %v %v", n, z.Shape, session.Data[float32](z))
		}
		z.Close()
		z.Close()
	}
}

// same runs an identity over the tensor and compares bytes and shape.
func same(t *testing.T, x *session.Tensor) {
	t.Helper()
	var unknown onnx.Shape
	for range x.Shape {
		unknown = append(unknown, onnx.Dim{Size: -1})
	}
	if unknown == nil {
		unknown = onnx.Shape{}
	}
	s := open(t, identity(t, x.Type, unknown))
	out, err := s.Run(ctx, feeds{"x": x})
	if err != nil {
		t.Errorf("%s %v: %v", x.Type, x.Shape, err)
		return
	}
	defer out["y"].Close()
	y := out["y"]
	if y.Type != x.Type || !slices.Equal(y.Shape, x.Shape) || !slices.Equal(y.Bytes(), x.Bytes()) || !slices.Equal(y.Strings(), x.Strings()) {
		t.Errorf("%s %v: got %s %v %v %q", x.Type, x.Shape, y.Type, y.Shape, y.Bytes(), y.Strings())
	}
}

func TestElementTypes(t *testing.T) {
	same(t, tensor(t, []float32{1, float32(math.NaN())}, 2))
	same(t, tensor(t, []float64{1, math.Inf(-1)}, 2))
	same(t, tensor(t, []int8{-1, 127}, 2))
	same(t, tensor(t, []int16{-1, math.MaxInt16}, 2))
	same(t, tensor(t, []int32{-1, math.MaxInt32}, 2))
	same(t, tensor(t, []int64{-1, math.MaxInt64}, 2))
	same(t, tensor(t, []uint8{0, 255}, 2))
	same(t, tensor(t, []uint16{0, math.MaxUint16}, 2))
	same(t, tensor(t, []uint32{0, math.MaxUint32}, 2))
	same(t, tensor(t, []uint64{0, math.MaxUint64}, 2))
	same(t, tensor(t, []bool{true, false}, 2))
	same(t, session.FromMemory(onnx.Float16, []int64{2}, []byte{0, 0x3c, 0, 0xbc}, nil))
	same(t, session.FromMemory(onnx.BFloat16, []int64{2}, []byte{0x80, 0x3f, 0x80, 0xbf}, nil))
	// Scalars and empty tensors.
	same(t, tensor(t, []float32{7}))
	same(t, tensor(t, []float32{}, 0))
	same(t, tensor(t, []int64{}, 3, 0, 2))
	same(t, session.FromMemory(onnx.Float16, []int64{}, []byte{0, 0x3c}, nil))
}

func TestStrings(t *testing.T) {
	for _, c := range []struct {
		data  []string
		shape []int64
	}{
		{[]string{"a", "", "zwei\x00Teile", "ü", strings.Repeat("long", 1000)}, []int64{5}},
		{[]string{"", ""}, []int64{2, 1}},
		{[]string{"scalar"}, nil},
		{[]string{}, []int64{0}},
	} {
		x, err := session.NewStrings(c.data, c.shape...)
		if err != nil {
			t.Fatal(err)
		}
		same(t, x)
	}
}

func TestMismatches(t *testing.T) {
	s := open(t, sum(t))
	x := tensor(t, []float32{1, 2, 3}, 1, 3)
	broken := session.FromMemory(onnx.Float, []int64{1, 3}, make([]byte, 8), nil)
	for name, c := range map[string]struct {
		in   feeds
		out  []string
		want string
	}{
		"missing":      {feeds{"x": x}, nil, `test: not fed: y float [n,3]`},
		"all missing":  {nil, nil, `not fed: x float [n,3], y float [n,3]`},
		"nil":          {feeds{"x": x, "y": nil}, nil, `input "y" of test`},
		"unknown":      {feeds{"x": x, "y": x, "w": x}, nil, `input "w" of test: no such input; the model takes x float [n,3], y float [n,3]`},
		"type":         {feeds{"x": x, "y": tensor(t, []int64{1, 2, 3}, 1, 3)}, nil, `input "y" of test: got int64 [1 3], want float [n,3]`},
		"rank":         {feeds{"x": x, "y": tensor(t, []float32{1, 2, 3}, 3)}, nil, `input "y" of test: got float [3], want float [n,3]`},
		"size":         {feeds{"x": x, "y": tensor(t, []float32{1, 2}, 1, 2)}, nil, `got float [1 2], want float [n,3]`},
		"memory":       {feeds{"x": x, "y": broken}, nil, `input "y" of test: 8 bytes do not fill float [1 3], which takes 12`},
		"output":       {feeds{"x": x, "y": x}, []string{"q"}, `output "q" of test: no such output; the model gives z float [n,3]`},
		"output twice": {feeds{"x": x, "y": x}, []string{"z", "z"}, `output "z" of test: asked for twice`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Run(ctx, c.in, c.out...)
			if galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	// What only the runtime sees: sizes that do not broadcast.
	_, err := s.Run(ctx, feeds{"x": tensor(t, make([]float32, 6), 2, 3), "y": tensor(t, make([]float32, 9), 3, 3)})
	var e *galley.Error
	if !errors.As(err, &e) || e.Subject != "test" {
		t.Errorf("got %v", err)
	}
}

func TestSomeOutputs(t *testing.T) {
	s := open(t, nonZero(t))
	out, err := s.Run(ctx, feeds{"x": tensor(t, []float32{0, 5, 0, 7}, 4)}, "i")
	if err != nil {
		t.Fatal(err)
	}
	if len(out) != 1 || !slices.Equal(session.Data[int64](out["i"]), []int64{1, 3}) {
		t.Errorf("got %v", out)
	}
	out["i"].Close()
}

// An output belongs to the caller, also after the session is gone.
func TestOutputsOutliveTheSession(t *testing.T) {
	s, err := orttest.Opener(t).Open(ctx, sum(t), session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	const n = 30000
	x := tensor(t, slices.Repeat([]float32{1, 2, 3}, n), n, 3)
	out, err := s.Run(ctx, feeds{"x": x, "y": x})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	for i, v := range session.Data[float32](out["z"]) {
		if v != float32(2*(i%3+1)) {
			t.Fatalf("element %d is %v", i, v)
		}
	}
	out["z"].Close()
}

func TestOpenRefuses(t *testing.T) {
	r := orttest.Opener(t)
	good := sum(t)
	for name, c := range map[string]struct {
		model []byte
		opts  session.Options
	}{
		"empty":     {nil, session.Options{}},
		"text":      {[]byte("hello"), session.Options{}},
		"truncated": {good[:len(good)-7], session.Options{}},
		"unknown operator": {graph(t, func(b *onnx.Builder) {
			b.Input("x", onnx.Float, onnx.Fixed(1))
			named(b, "NoSuchOperator", "y", "x")
			b.Output("y", onnx.Float, onnx.Fixed(1))
		}), session.Options{}},
		"wrong types": {graph(t, func(b *onnx.Builder) {
			b.Input("x", onnx.Float, onnx.Fixed(1))
			b.Input("i", onnx.Int64, onnx.Fixed(1))
			named(b, "Add", "y", "x", "i")
			b.Output("y", onnx.Float, onnx.Fixed(1))
		}), session.Options{}},
		"threads": {good, session.Options{Threads: -1}},
		"level":   {good, session.Options{Optimize: 9}},
	} {
		t.Run(name, func(t *testing.T) {
			c.opts.Label = "news@3"
			s, err := r.Open(ctx, c.model, c.opts)
			var e *galley.Error
			if !errors.As(err, &e) || e.Code != galley.InvalidArgument || e.Subject != "news@3" {
				t.Errorf("got %v, %v", s, err)
			}
		})
	}
	if _, err := r.OpenFile(ctx, filepath.Join(t.TempDir(), "absent.onnx"), session.Options{}); galley.CodeOf(err) != galley.NotFound {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := r.OpenFile(ctx, t.TempDir(), session.Options{}); galley.CodeOf(err) != galley.InvalidArgument {
		t.Errorf("a folder: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := r.Open(ended, good, session.Options{}); galley.CodeOf(err) != galley.Canceled {
		t.Errorf("a cancelled open: %v", err)
	}
}

// FuzzOpen feeds models with flipped bytes: an error or a session, no crash.
func FuzzOpen(f *testing.F) {
	f.Add(sum(f))
	f.Add(nonZero(f))
	f.Add(long(f))
	r := orttest.Opener(f)
	f.Fuzz(func(t *testing.T, model []byte) {
		s, err := r.Open(ctx, model, session.Options{Threads: 1, Label: "fuzzed"})
		if err != nil {
			if galley.CodeOf(err) == galley.Unknown {
				t.Errorf("an error without a code: %v", err)
			}
			return
		}
		s.Close()
	})
}

func TestOpenFileWithExternalData(t *testing.T) {
	r := orttest.Opener(t)
	g := &onnx.Graph{Name: "test"}
	b := onnx.NewBuilder(g)
	b.Input("x", onnx.Float, onnx.Fixed(1, 64))
	weights := make([]float32, 64*64)
	for i := range 64 {
		weights[65*i] = 2
	}
	named(b, "MatMul", "y", "x", b.Weight(onnx.NewFloat("w", weights, 64, 64)))
	b.Output("y", onnx.Float, onnx.Fixed(1, 64))
	path := filepath.Join(t.TempDir(), "model.onnx")
	m := &onnx.Model{IRVersion: 8, Opsets: map[string]int64{"": 17}, Graph: g}
	if err := onnx.WriteFile(path, m, onnx.WriteOptions{External: 1024}); err != nil {
		t.Fatal(err)
	}
	s, err := r.OpenFile(ctx, path, session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Bytes() < 4*64*64 {
		t.Errorf("the session is said to hold %d bytes", s.Bytes())
	}
	out, err := s.Run(ctx, feeds{"x": tensor(t, slices.Repeat([]float32{1}, 64), 1, 64)})
	if err != nil || !slices.Equal(session.Data[float32](out["y"]), slices.Repeat([]float32{2}, 64)) {
		t.Errorf("got %v, %v", out, err)
	}
	out["y"].Close()
	// The same bytes without the file beside them are refused, even where the
	// file is in the working folder.
	t.Chdir(filepath.Dir(path))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Open(ctx, data, session.Options{}); galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(err.Error(), "beside it") {
		t.Errorf("bytes with external data: %v", err)
	}
}

func TestRunStopsWithItsContext(t *testing.T) {
	s := open(t, long(t))
	in := feeds{"times": tensor(t, []int64{math.MaxInt64}), "go": tensor(t, []bool{true}), "a": tensor(t, make([]float32, 32*32), 32, 32)}
	deadline, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := s.Run(deadline, in); galley.CodeOf(err) != galley.DeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	b, err := s.Bind()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for name, x := range in {
		if err := b.Input(name, x); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.OutputAuto("r"); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := b.Run(cancelled); galley.CodeOf(err) != galley.Canceled {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if err := b.Run(cancelled); galley.CodeOf(err) != galley.Canceled {
		t.Errorf("a context that has ended: %v", err)
	}
	// Both still work afterwards.
	in["times"] = tensor(t, []int64{3})
	if err := b.Input("times", in["times"]); err != nil {
		t.Fatal(err)
	}
	live, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := b.Run(live); err != nil {
		t.Error(err)
	}
	out, err := s.Run(live, in)
	if err != nil {
		t.Fatal(err)
	}
	out["r"].Close()
}

func TestCloseDuringRuns(t *testing.T) {
	r := orttest.Runtime(t)
	before := r.Account()
	s, err := r.Open(ctx, sum(t), session.Options{Threads: 1, Label: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Account(); got.Sessions != before.Sessions+1 || got.Bytes != before.Bytes+s.Bytes() || s.Bytes() <= 0 {
		t.Errorf("account %+v, before %+v, session %d", got, before, s.Bytes())
	}
	var group sync.WaitGroup
	started := make(chan struct{}, 4)
	for range 4 {
		group.Go(func() {
			x := tensor(t, slices.Repeat([]float32{1, 2, 3}, 1000), 1000, 3)
			for i := 0; ; i++ {
				out, err := s.Run(ctx, feeds{"x": x, "y": x})
				if i == 0 {
					started <- struct{}{}
				}
				if err != nil {
					if galley.CodeOf(err) != galley.FailedPrecondition {
						t.Error(err)
					}
					return
				}
				out["z"].Close()
			}
		})
	}
	for range 4 {
		<-started
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	group.Wait()
	if _, err := s.Bind(); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Errorf("binding a closed session: %v", err)
	}
	if got := r.Account(); got != before {
		t.Errorf("account %+v, before %+v", got, before)
	}
}

// A library that is none, or not the right one, is an error in a fresh process.
func TestLoadRefuses(t *testing.T) {
	if path := os.Getenv("GALLEY_TEST_LOAD"); path != "" {
		_, err := ort.Load(path)
		fmt.Println("code", galley.CodeOf(err), err)
		return
	}
	text := filepath.Join(t.TempDir(), "libonnxruntime.so")
	if err := os.WriteFile(text, []byte("text"), 0o755); err != nil {
		t.Fatal(err)
	}
	paths := []string{text}
	if libraries, _ := filepath.Glob("/lib/*/libm.so.6"); len(libraries) > 0 {
		paths = append(paths, libraries[0])
	}
	for _, path := range paths {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLoadRefuses$")
		cmd.Env = append(os.Environ(), "GALLEY_TEST_LOAD="+path)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "code "+string(galley.FailedPrecondition)) && !strings.Contains(string(out), "code "+string(galley.Unimplemented)) {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
	}
}

func TestOpenStopsWithItsContext(t *testing.T) {
	r := orttest.Opener(t)
	model := graph(t, func(b *onnx.Builder) {
		x := b.Input("x", onnx.Float, onnx.Shape{rows})
		for range 500 {
			x = b.Op("Add", x, b.Op("Exp", x))
		}
		b.Output(x, onnx.Float, onnx.Shape{rows})
	})
	begin := time.Now()
	s, err := r.Open(ctx, model, session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	whole := time.Since(begin)
	short, cancel := context.WithTimeout(ctx, whole/10)
	defer cancel()
	begin = time.Now()
	s, err = r.Open(short, model, session.Options{Threads: 1})
	if err == nil {
		s.Close() // the runtime looked at the flag no more
	} else if galley.CodeOf(err) != galley.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
	t.Logf("opened in %v; stopped after %v: %v", whole, time.Since(begin), err)
}

func TestOptions(t *testing.T) {
	r := orttest.Opener(t)
	for _, opts := range []session.Options{
		{}, {Threads: 2}, {NoArena: true}, {NoMemoryPattern: true}, {NoSpinning: true},
		{Optimize: session.OptimizeExtended}, {Optimize: session.OptimizeBasic}, {Optimize: session.OptimizeNone},
	} {
		s, err := r.Open(ctx, sum(t), opts)
		if err != nil {
			t.Errorf("%+v: %v", opts, err)
			continue
		}
		x := tensor(t, []float32{1, 2, 3}, 1, 3)
		out, err := s.Run(ctx, feeds{"x": x, "y": x})
		if err != nil {
			t.Errorf("%+v: %v", opts, err)
		}
		out["z"].Close()
		s.Close()
	}
}

func TestLoad(t *testing.T) {
	r := orttest.Runtime(t)
	again, err := ort.Load(r.Path())
	if err != nil || again != r {
		t.Errorf("loading the same library again: %v, %v", again, err)
	}
	other := filepath.Join(t.TempDir(), "libonnxruntime.so")
	if _, err := ort.Load(other); galley.CodeOf(err) != galley.NotFound {
		t.Errorf("a missing library: %v", err)
	}
	if err := os.WriteFile(other, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ort.Load(other); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Errorf("another library: %v", err)
	}
	if want := "onnxruntime " + r.Version(); r.Runtime() != want || !strings.HasPrefix(r.Version(), "1.") {
		t.Errorf("runtime %q, want %q", r.Runtime(), want)
	}
}

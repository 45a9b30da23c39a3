package federation

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"galley"
	"galley/onnx"
)

func TestWeightsAreReadAsWritten(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var l Layout
		var values [][]float32
		for i := range rapid.IntRange(1, 6).Draw(rt, "tensors") {
			s := Shape{Name: string(rune('a' + i)), Dims: rapid.SliceOfN(rapid.Int64Range(0, 5), 0, 3).Draw(rt, "dims")}
			n, _ := s.size()
			l = append(l, s)
			values = append(values, rapid.SliceOfN(rapid.Float32(), int(n), int(n)).Draw(rt, "values"))
		}
		data, digest := encode(t, l, values...)
		if int64(len(data)) != l.EncodedSize() || digest != galley.DigestBytes(data) {
			rt.Fatalf("%d bytes of %d, %s", len(data), l.EncodedSize(), digest)
		}
		r, err := NewReader(bytes.NewReader(data), nil)
		if err != nil {
			rt.Fatal(err)
		}
		if r.Layout().Digest() != l.Digest() {
			rt.Fatalf("%v, want %v", r.Layout(), l)
		}
		for i, got := range decode(t, l, data) {
			for j := range got {
				if math.Float32bits(got[j]) != math.Float32bits(values[i][j]) {
					rt.Fatalf("%g, want %g", got[j], values[i][j])
				}
			}
		}
	})
}

// reasonOf returns why bytes are no update of the small model, "" if they are.
func reasonOf(t testing.TB, data []byte) Reason {
	t.Helper()
	_, err := Inspect(bytes.NewReader(data), testLayout)
	var f *Fault
	if err != nil && !errors.As(err, &f) {
		t.Fatalf("an error that is no fault: %v", err)
	}
	if f == nil {
		return ""
	}
	if f.Message == "" {
		t.Error("a fault that says nothing")
	}
	return f.Reason
}

func TestInspectRefuses(t *testing.T) {
	values := random(testLayout, 1)
	good, _ := encode(t, testLayout, values...)
	other := func(shapes ...Shape) []byte {
		data, _ := encode(t, shapes, random(shapes, 1)...)
		return data
	}
	with := func(v float64) []byte {
		changed := random(testLayout, 1)
		changed[1][11] = float32(v)
		data, _ := encode(t, testLayout, changed...)
		return data
	}
	long := Shape{strings.Repeat("z", maxName), []int64{1}}
	for _, tt := range []struct {
		name string
		data []byte
		want Reason
	}{
		{"good", good, ""},
		{"NaN", with(math.NaN()), NotFinite},
		{"infinite", with(math.Inf(-1)), NotFinite},
		{"largest", with(math.MaxFloat32), ""},
		{"empty", nil, Damaged},
		{"text", []byte("the minister said on Monday that"), Damaged},
		{"too long", append(bytes.Clone(good), 0), TooLarge},
		{"another shape", other(testLayout[0], Shape{"dense.weight", []int64{3, 4}}, testLayout[2]), WrongShape},
		{"fewer tensors", other(testLayout[:2]...), WrongShape},
		{"other tensors", other(testLayout[0], Shape{"dense.width", []int64{12}}, testLayout[2]), WrongShape},
		{"more tensors", other(append(testLayout[:3:3], long)...), WrongShape},
		{"long layout", binary.LittleEndian.AppendUint32([]byte(magic), maxHeader), WrongShape},
		{"endless layout", binary.LittleEndian.AppendUint32([]byte(magic), math.MaxUint32), TooLarge},
		{"cut layout", good[:20], Damaged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := reasonOf(t, tt.data); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
	for n := range good {
		if got := reasonOf(t, good[:n]); got != Damaged {
			t.Fatalf("cut at %d: %q", n, got)
		}
		flipped := bytes.Clone(good)
		flipped[n] ^= 1 << (n % 8)
		if got := reasonOf(t, flipped); got == "" {
			t.Fatalf("a bit of byte %d counts for nothing", n)
		}
	}
}

// zeros never end.
type zeros struct{ read int64 }

func (z *zeros) Read(b []byte) (int, error) {
	clear(b)
	z.read += int64(len(b))
	return len(b), nil
}

// Who sends 10 GB is stopped after what an update may have.
func TestInspectStopsReading(t *testing.T) {
	good, _ := encode(t, testLayout, random(testLayout, 1)...)
	rest := &zeros{}
	_, err := Inspect(io.MultiReader(bytes.NewReader(good), rest), testLayout)
	var f *Fault
	if !errors.As(err, &f) || f.Reason != TooLarge || rest.read > 1024 {
		t.Errorf("%v after %d bytes too many", err, rest.read)
	}
}

// What is allocated is bounded by what has come, not by what was said.
func TestHostileLayoutsCostNothing(t *testing.T) {
	head := func(layout []byte) []byte {
		return append(binary.LittleEndian.AppendUint32([]byte(magic), uint32(len(layout))), layout...)
	}
	for name, data := range map[string][]byte{
		"tensors": head(binary.LittleEndian.AppendUint32(nil, math.MaxUint32)),
		"layout":  binary.LittleEndian.AppendUint32([]byte(magic), maxHeader),
		"numbers": head(Layout{{"a", []int64{maxElements, maxElements}}}.encode()),
		"wraps":   head(Layout{{"a", []int64{1 << 32, 1 << 32}}}.encode()),
		"below 0": head(Layout{{"a", []int64{-1, -1}}}.encode()),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := NewReader(bytes.NewReader(data), nil)
		runtime.ReadMemStats(&after)
		var f *Fault
		if !errors.As(err, &f) || after.TotalAlloc-before.TotalAlloc > 1<<20 {
			t.Errorf("%s: %v after %d bytes", name, err, after.TotalAlloc-before.TotalAlloc)
		}
	}
}

func TestLayoutOf(t *testing.T) {
	l, err := LayoutOf([]*onnx.Tensor{onnx.NewFloat("w", make([]float32, 6), 2, 3), onnx.NewFloat("b", make([]float32, 3), 3)})
	if err != nil || l.Digest() != (Layout{{"b", []int64{3}}, {"w", []int64{2, 3}}}).Digest() || l.Elements() != 9 {
		t.Errorf("%v, %v", l, err)
	}
	for name, tensors := range map[string][]*onnx.Tensor{
		"integers": {onnx.NewInt64("n", []int64{1}, 1)},
		"twice":    {onnx.NewFloat("w", nil, 0), onnx.NewFloat("w", nil, 0)},
		"none":     {},
	} {
		if _, err := LayoutOf(tensors); galley.CodeOf(err) != galley.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWriteUpdate(t *testing.T) {
	before, after := random(testLayout, 1), random(testLayout, 2)
	norm := 0.0
	for i := range before {
		for j := range before[i] {
			norm = math.Hypot(norm, float64(after[i][j])-float64(before[i][j]))
		}
	}
	for _, clip := range []float64{0, norm / 2, norm * 2} {
		var b bytes.Buffer
		made, err := WriteUpdate(&b, testLayout, before, after, clip)
		if err != nil {
			t.Fatal(err)
		}
		found, err := Inspect(bytes.NewReader(b.Bytes()), testLayout)
		if err != nil || found != made {
			t.Errorf("made %+v and found %+v: %v", made, found, err)
		}
		want := norm
		if clip > 0 {
			want = min(norm, clip)
		}
		if math.Abs(made.Norm-want) > 1e-5 {
			t.Errorf("clipped at %g: a norm of %g, want %g", clip, made.Norm, want)
		}
	}
	after[0][0] = float32(math.NaN())
	if _, err := WriteUpdate(io.Discard, testLayout, before, after, 0); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Errorf("training ended in NaN: %v", err)
	}
	if _, err := WriteUpdate(io.Discard, testLayout, before[:2], after, 0); galley.CodeOf(err) != galley.InvalidArgument {
		t.Errorf("a tensor is missing: %v", err)
	}
}

func FuzzInspect(f *testing.F) {
	good, _ := encode(f, testLayout, random(testLayout, 1)...)
	f.Add(good)
	seeds, err := filepath.Glob("testdata/update/*")
	if err != nil || len(seeds) == 0 {
		f.Fatal("no corpus: ", err)
	}
	for _, path := range seeds {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if reasonOf(t, data) == "" && int64(len(data)) != testLayout.EncodedSize() {
			t.Errorf("%d bytes pass for %d", len(data), testLayout.EncodedSize())
		}
		r, err := NewReader(bytes.NewReader(data), nil)
		if err != nil {
			return
		}
		if err := r.Layout().Validate(); err != nil {
			t.Errorf("a layout was taken that is none: %v", err)
		}
	})
}

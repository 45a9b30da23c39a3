package federation

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"galley"
)

// A scene is a base and updates that are to be aggregated.
type scene struct {
	layout  Layout
	base    [][]float32
	updates [][][]float32
	parts   []Part
	shelf   shelf
	from    galley.Digest
}

func newScene(t testing.TB, l Layout, partners int) *scene {
	s := &scene{layout: l, base: random(l, 100), shelf: shelf{}}
	data, digest := encode(t, l, s.base...)
	s.shelf[digest], s.from = data, digest
	rows := make([]int64, partners)
	for i := range rows {
		rows[i] = int64(1 + 37*i)
	}
	for i, share := range shares(rows, 1) {
		u := random(l, uint64(i))
		data, digest := encode(t, l, u...)
		s.shelf[digest] = data
		s.updates = append(s.updates, u)
		s.parts = append(s.parts, Part{string(rune('a' + i)), digest, share, 1 / float64(1+i%3)})
	}
	return s
}

func (s *scene) aggregate() ([]byte, error) {
	var b bytes.Buffer
	_, err := Aggregate(&b, s.layout, bytes.NewReader(s.shelf[s.from]), s.parts, s.shelf.open)
	return b.Bytes(), err
}

// wide has tensors of several chunks, and one of none.
var wide = Layout{{"a", []int64{3, chunk}}, {"b", []int64{0, 4}}, {"c", []int64{chunk + 1}}, {"d", nil}}

func TestAggregateAgainstDirectComputation(t *testing.T) {
	s := newScene(t, wide, 7)
	data, err := s.aggregate()
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range decode(t, wide, data) {
		for j := range got {
			want := float64(s.base[i][j])
			for k, p := range s.parts {
				want += p.Share * p.Scale * float64(s.updates[k][i][j])
			}
			// One rounding to float32 is all that may lie between.
			if math.Abs(float64(got[j])-want) > math.Abs(want)*0x1p-24+1e-12 {
				t.Fatalf("%s[%d] is %g, not %g", wide[i].Name, j, got[j], want)
			}
		}
	}
}

func TestAggregateIgnoresOrder(t *testing.T) {
	s := newScene(t, testLayout, 9)
	want, err := s.aggregate()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		rand.Shuffle(len(s.parts), func(i, j int) { s.parts[i], s.parts[j] = s.parts[j], s.parts[i] })
		order := slices.Clone(s.parts)
		if got, err := s.aggregate(); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("another order, other bits: %v", err)
		}
		if !slices.Equal(order, s.parts) {
			t.Fatal("the caller's list was sorted")
		}
	}
}

// The average of whole models, as the paper writes it, is the base and the
// average of what changed.
func TestAggregateIsTheAverageOfModels(t *testing.T) {
	base := random(testLayout, 1)
	rows := []int64{10, 30, 60}
	var models [][][]float32
	s := &scene{layout: testLayout, shelf: shelf{}}
	data, digest := encode(t, testLayout, base...)
	s.shelf[digest], s.from = data, digest
	for i, share := range shares(rows, 1) {
		model := random(testLayout, uint64(10+i))
		models = append(models, model)
		var b bytes.Buffer
		found, err := WriteUpdate(&b, testLayout, base, model, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.shelf[found.Digest] = b.Bytes()
		s.parts = append(s.parts, Part{string(rune('a' + i)), found.Digest, share, 1})
	}
	out, err := s.aggregate()
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range decode(t, testLayout, out) {
		for j := range got {
			want := 0.1*float64(models[0][i][j]) + 0.3*float64(models[1][i][j]) + 0.6*float64(models[2][i][j])
			if math.Abs(float64(got[j])-want) > 1e-6 {
				t.Errorf("%g, want %g", got[j], want)
			}
		}
	}
}

func TestAggregateNamesWhoSpoilsIt(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(s *scene, u galley.Digest)
		want  Reason
	}{
		{"damaged", func(s *scene, u galley.Digest) { s.shelf[u][len(s.shelf[u])-50] ^= 1 }, Damaged},
		{"cut", func(s *scene, u galley.Digest) { s.shelf[u] = s.shelf[u][:100] }, Damaged},
		{"another's", func(s *scene, u galley.Digest) { s.shelf[u] = s.shelf[s.parts[0].Update] }, Damaged},
		{"another shape", func(s *scene, u galley.Digest) {
			l := Layout{{"x", []int64{1}}}
			s.shelf[u], _ = encode(t, l, []float32{1})
		}, WrongShape},
		{"too far", func(s *scene, u galley.Digest) {
			v := random(testLayout, 1)
			v[0][2] = math.MaxFloat32
			data, digest := encode(t, testLayout, v...)
			s.shelf[digest] = data
			s.parts[2].Update, s.parts[2].Scale = digest, 1e3
		}, NotFinite},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t, testLayout, 4)
			tt.spoil(s, s.parts[2].Update)
			_, err := s.aggregate()
			var spoilt *SpoiltError
			if !errors.As(err, &spoilt) || spoilt.Partner != "c" || spoilt.Fault.Reason != tt.want {
				t.Errorf("got %v, want %s of c", err, tt.want)
			}
		})
	}
}

// What the coordinator's own storage says is nobody's fault.
func TestAggregateBlamesNobodyForTheDisk(t *testing.T) {
	var spoilt *SpoiltError
	s := newScene(t, testLayout, 3)
	delete(s.shelf, s.parts[1].Update)
	if _, err := s.aggregate(); err == nil || errors.As(err, &spoilt) {
		t.Errorf("a file is gone: %v", err)
	}
	s = newScene(t, testLayout, 3)
	s.shelf[s.from] = s.shelf[s.from][:50]
	if _, err := s.aggregate(); err == nil || errors.As(err, &spoilt) {
		t.Errorf("the base is cut: %v", err)
	}
}

// generate gives the bytes of weights that nobody holds: the same number, over
// and over.

func generate(l Layout, v float32) (io.ReadCloser, <-chan galley.Digest) {
	r, w := io.Pipe()
	digest := make(chan galley.Digest, 1)
	go func() {
		out, err := NewWriter(w, l)
		row := make([]float32, chunk)
		for i := range row {
			row[i] = v
		}
		for left := l.Elements(); left > 0 && err == nil; left -= int64(len(row)) {
			err = out.Write(row[:min(left, int64(len(row)))])
		}
		if err == nil {
			var d galley.Digest
			d, err = out.Close()
			digest <- d
		}
		w.CloseWithError(err)
	}()
	return r, digest
}

// A model of 4 MB and a hundred partners: a chunk of each is held, not a model.
func TestAggregateHoldsChunks(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 400 MB")
	}
	l := Layout{{"w", []int64{1 << 20}}}
	base, _ := generate(l, 1)
	r, digest := generate(l, 0.5)
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	update := <-digest
	parts := make([]Part, 100)
	for i := range parts {
		parts[i] = Part{string([]byte{'a' + byte(i/10), 'a' + byte(i%10)}), update, 0.01, 1}
	}
	var peak, start uint64
	sample := func() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapAlloc)
	}
	runtime.GC()
	sample()
	start = peak
	watched := &watch{every: 1 << 20, do: sample}
	_, err := Aggregate(watched, l, base, parts, func(galley.Digest) (io.ReadCloser, error) {
		r, _ := generate(l, 0.5)
		return r, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sample()
	// Readers and, in this test, the writers that feed them: 200 times three
	// buffers of a chunk, and what the collector has not yet collected.
	grown := peak - start
	t.Logf("%d MB", grown>>20)
	if grown > 32<<20 {
		t.Errorf("%d MB are held for a hundred updates of 4 MB", grown>>20)
	}
}

// A watch looks around each time so many bytes were written.
type watch struct {
	every, left int
	do          func()
}

func (w *watch) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left <= 0 {
		w.left = w.every
		w.do()
	}
	return len(b), nil
}

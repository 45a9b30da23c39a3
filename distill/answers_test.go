package distill

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"galley"
	"galley/dataset"
)

// texts are rows whose text is their number.
type texts int

func (n texts) Len() int { return int(n) }

func (n texts) At(i int) (dataset.Row, error) { return dataset.Row{Text: strconv.Itoa(i)}, nil }

// asked counts the texts that a teacher of two labels is asked about.
type asked struct{ texts int }

func (a *asked) ask(_ context.Context, texts []string) ([]float32, error) {
	a.texts += len(texts)
	var out []float32
	for _, s := range texts {
		x, err := strconv.ParseFloat(s, 32)
		if err != nil {
			return nil, err
		}
		out = append(out, float32(x), -1)
	}
	return out, nil
}

const someRows = 2*SegmentRows + 7

func TestAnswersAreAskedForOnce(t *testing.T) {
	folder, of := t.TempDir(), Of{Teacher: "sha256:a", Rows: "sha256:b", Runtime: "r 1", Threads: 2}
	var first, again, other asked
	read := func(of Of, a *asked) (out []float32) {
		t.Helper()
		answers := NewAnswers(folder, of, texts(someRows), 2)
		for i := range answers.Segments() {
			logits, err := answers.Segment(t.Context(), i, a.ask)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, logits...)
		}
		return out
	}
	want := read(of, &first)
	if got := read(of, &again); first.texts != someRows || again.texts != 0 || !slices.Equal(got, want) || want[2*(someRows-1)] != someRows-1 {
		t.Errorf("asked about %d texts, then about %d", first.texts, again.texts)
	}
	// What decides the bits is in the name.
	for _, of := range []Of{
		{Teacher: "sha256:c", Rows: "sha256:b", Runtime: "r 1", Threads: 2},
		{Teacher: "sha256:a", Rows: "sha256:c", Runtime: "r 1", Threads: 2},
		{Teacher: "sha256:a", Rows: "sha256:b", Runtime: "r 2", Threads: 2},
		{Teacher: "sha256:a", Rows: "sha256:b", Runtime: "r 1", Threads: 1},
		{Teacher: "sha256:a", Rows: "sha256:b", Runtime: "r 1", Threads: 2, Fraction: 0.5, Seed: 3},
	} {
		other.texts = 0
		if read(of, &other); other.texts != someRows {
			t.Errorf("%+v: asked about %d texts", of, other.texts)
		}
	}
}

// A segment that is damaged in any way is asked for again, and it alone.
func TestDamagedAnswersAreAskedForAgain(t *testing.T) {
	damages := map[string]func([]byte) []byte{
		"a bit of the magic":  func(b []byte) []byte { b[0] ^= 1; return b },
		"a bit of the name":   func(b []byte) []byte { b[len(magic)] ^= 1; return b },
		"a bit of the count":  func(b []byte) []byte { b[headerSize-1] ^= 1; return b },
		"a bit of a number":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"a bit of the digest": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"its end":             func(b []byte) []byte { return b[:len(b)-1] },
		"more at its end":     func(b []byte) []byte { return append(b, 0) },
		"everything":          func(b []byte) []byte { return nil },
		"the file of another": nil,
	}
	for name, damage := range damages {
		folder := t.TempDir()
		a := NewAnswers(folder, Of{Teacher: "sha256:a"}, texts(someRows), 2)
		var first, again asked
		for i := range a.Segments() {
			if _, err := a.Segment(t.Context(), i, first.ask); err != nil {
				t.Fatal(err)
			}
		}
		data, err := os.ReadFile(a.path(1))
		if err != nil {
			t.Fatal(err)
		}
		if damage == nil {
			data, err = os.ReadFile(a.path(0))
		} else {
			data = damage(data)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(a.path(1), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if a.Has(1) || !a.Has(0) || !a.Has(2) {
			t.Errorf("%s: has %v, %v, %v", name, a.Has(0), a.Has(1), a.Has(2))
		}
		for i := range a.Segments() {
			if _, err := a.Segment(t.Context(), i, again.ask); err != nil {
				t.Fatal(name, err)
			}
		}
		if again.texts != SegmentRows || !a.Has(1) {
			t.Errorf("%s: asked about %d texts again", name, again.texts)
		}
	}
}

func TestRefusedAnswers(t *testing.T) {
	broken := errors.New("broken")
	for want, ask := range map[string]Ask{
		"broken": func(context.Context, []string) ([]float32, error) { return nil, broken },
		"answered 3 numbers about 2 texts, not 2 each": func(context.Context, []string) ([]float32, error) { return []float32{1, 2, 3}, nil },
		"answer to row 1 is not finite": func(context.Context, []string) ([]float32, error) {
			return []float32{1, 2, 3, float32(math.NaN())}, nil
		},
	} {
		folder := t.TempDir()
		a := NewAnswers(folder, Of{}, texts(2), 2)
		if _, err := a.Segment(t.Context(), 0, ask); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		if left, _ := filepath.Glob(filepath.Join(folder, "*", "*")); len(left) > 0 || a.Has(0) {
			t.Errorf("%s: left %v", want, left)
		}
	}
}

func TestTargets(t *testing.T) {
	folder, path := t.TempDir(), filepath.Join(t.TempDir(), "targets")
	var one, two asked
	member := func(teacher galley.Digest, places []int, a *asked) Member {
		return Member{Places: places, Ask: a.ask, Answers: []*Answers{
			NewAnswers(folder, Of{Teacher: teacher}, texts(someRows), 2),
			NewAnswers(folder, Of{Teacher: teacher, Rows: "sha256:more"}, texts(3), 2),
		}}
	}
	members := []Member{member("sha256:a", []int{0, 1}, &one), member("sha256:b", []int{1, 0}, &two)}
	of := galley.Digest("sha256:of")
	if err := WriteTargets(t.Context(), path, of, members, 2, 4); err != nil {
		t.Fatal(err)
	}
	const rows = someRows + 3
	targets, err := OpenTargets(path, of, rows, 2, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer targets.Close()
	row := make([]float32, 2)
	for _, i := range []int{0, 5, SegmentRows, someRows - 1, someRows, rows - 1} {
		if err := targets.Row(row, i); err != nil {
			t.Fatal(err)
		}
		// Two teachers that say the opposite of each other.
		if math.Abs(float64(row[0])-0.5) > 1e-6 || math.Abs(float64(row[1])-0.5) > 1e-6 {
			t.Errorf("row %d: %v", i, row)
		}
	}
	if targets.Row(row, -1) == nil || targets.Row(row, rows) == nil {
		t.Error("a row that there is not")
	}
	alone := filepath.Join(t.TempDir(), "alone")
	if err := WriteTargets(t.Context(), alone, of, members[:1], 2, 4); err != nil {
		t.Fatal(err)
	}
	t2, err := OpenTargets(alone, of, rows, 2, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer t2.Close()
	if err := t2.Row(row, someRows+2); err != nil { // row 2 of the second file
		t.Fatal(err)
	}
	if want := 1 / (1 + math.Exp(-3.0/4)); math.Abs(float64(row[0])-want) > 1e-6 {
		t.Errorf("%v, want %v", row, want)
	}
	for name, open := range map[string]func() (*Targets, error){
		"of others":     func() (*Targets, error) { return OpenTargets(path, "sha256:other", rows, 2, 0) },
		"of more rows":  func() (*Targets, error) { return OpenTargets(path, of, rows+1, 2, 0) },
		"that are gone": func() (*Targets, error) { return OpenTargets(path+"x", of, rows, 2, 0) },
	} {
		if got, err := open(); err == nil {
			got.Close()
			t.Error("targets", name, "were taken")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := WriteTargets(ctx, path+"2", of, members, 2, 4); galley.CodeOf(err) != galley.Canceled {
		t.Error(err)
	}
}

func TestCheckSize(t *testing.T) {
	if err := CheckSize(1_000_000, 100); err != nil {
		t.Error(err)
	}
	err := CheckSize(10_000_000, 10_000)
	if galley.CodeOf(err) != galley.ResourceExhausted || !strings.Contains(err.Error(), "take 372 GiB, more than 16 GiB — choose a smaller part of the rows: data.fraction") {
		t.Error(err)
	}
}

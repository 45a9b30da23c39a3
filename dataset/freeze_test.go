package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"galley"
)

// text makes an input of a string.
func text(name, content string) *Input {
	return &Input{Name: name, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }}
}

// file makes an input of a file.
func file(path string) *Input {
	return &Input{Name: filepath.Base(path), Open: func() (io.ReadCloser, error) { return os.Open(path) }}
}

// A shelf keeps what was frozen in memory.
type shelf map[Split]*bytes.Buffer

func (s shelf) sink(split Split) (io.Writer, error) {
	s[split] = new(bytes.Buffer)
	return s[split], nil
}

func (s shelf) rows(t *testing.T, split Split) []Row {
	t.Helper()
	b := s[split].Bytes()
	r, err := OpenRecords(string(split), bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var rows []Row
	for i := range r.Len() {
		row, err := r.At(i)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return rows
}

func freeze(t *testing.T, opts FreezeOptions, in Inputs) (*Manifest, *Rejections, shelf) {
	t.Helper()
	if opts.Name == "" {
		opts.Name = "news"
	}
	if opts.Format == "" {
		opts.Format = CSV
	}
	s := shelf{}
	m, rejected, err := Freeze(t.Context(), opts, in, s.sink)
	if err != nil {
		t.Fatal(err)
	}
	for split, info := range m.Splits {
		b := s[split].Bytes()
		if info.Bytes != int64(len(b)) || info.Digest != galley.DigestBytes(b) || int64(len(s.rows(t, split))) != info.Rows {
			t.Fatalf("%s is not what the manifest says", split)
		}
	}
	return m, rejected, s
}

func TestFreeze(t *testing.T) {
	m, rejected, s := freeze(t, FreezeOptions{Licence: "CC0-1.0"}, Inputs{
		Train: text("train.csv", "text,label\nCup final,sport\n股市大涨,money\n ,sport\nno label,\n\xff,sport\n"+strings.Repeat("x", MaxText+1)+",sport\ncup  FINAL,sport\n"),
		Valid: text("valid.csv", "text,label\nCup Final,sport\nbanks,money\nrain,weather\n"),
		Test:  text("test.csv", "label,text\nmoney,banks\n"),
	})
	if got := fmt.Sprint(m.Labels, m.ValidFraction, m.Columns); got != "[money sport] 0 text=text,label=label" {
		t.Error(got)
	}
	for split, want := range map[Split]string{
		Train: "3 map[money:1 sport:2] map[en:2 zh:1] 1 0",
		Valid: "2 map[money:1 sport:1] map[en:2] 0 1",
		Test:  "1 map[money:1] map[en:1] 0 0",
	} {
		i := m.Splits[split]
		if got := fmt.Sprint(i.Rows, i.Classes, i.Languages, i.Duplicates, i.Leaks); got != want {
			t.Errorf("%s: %s, want %s", split, got, want)
		}
	}
	want := []Rejection{
		{"train.csv", 4, "empty text"},
		{"train.csv", 5, "no label"},
		{"train.csv", 6, "invalid UTF-8"},
		{"train.csv", 7, "the text has 1048577 bytes, more than 1 MiB"},
		{"valid.csv", 4, "label not in the set: weather"},
	}
	if !slices.Equal(rejected.First, want) || rejected.Total != 5 {
		t.Errorf("%+v", rejected)
	}
	if rows := s.rows(t, Train); rows[1] != (Row{"股市大涨", "money", "zh"}) {
		t.Error(rows)
	}
}

func TestFreezeUnlabelled(t *testing.T) {
	m, _, s := freeze(t, FreezeOptions{Format: JSONL, ValidFraction: -1}, Inputs{Train: text("t.jsonl", `{"text":"a"}`+"\n"+`{"text":"b","language":"DE"}`)})
	if len(m.Labels) != 0 || m.Splits[Train].Rows != 2 || len(m.Splits) != 1 {
		t.Error(m)
	}
	// The columns are those of the first object: its rows have no language.
	if rows := s.rows(t, Train); rows[1].Language != "en" {
		t.Error(rows)
	}
	if m, _, _ = freeze(t, FreezeOptions{ValidFraction: 1e-9}, Inputs{Train: text("t.csv", "text\na\n")}); len(m.Splits) != 1 {
		t.Error(m)
	}
	m, _, _ = freeze(t, FreezeOptions{ValidFraction: -1, Columns: Columns{Text: []string{"a", "b"}, Language: []string{"l"}}},
		Inputs{Train: text("t.csv", "a,b,l\n x ,,DE\nx,y,\n")})
	if got := fmt.Sprint(m.Splits[Train].Languages); got != "map[de:1 en:1]" {
		t.Error(got)
	}
}

// The cut is near the fraction, the same for the same seed; equal texts never straddle it; each label stays in train.
func TestFreezeCut(t *testing.T) {
	var lines []string
	for i := range 3000 {
		lines = append(lines, fmt.Sprintf("Story  number %d,l%d", i%1000, i%7))
	}
	lines = append(lines, "a singular story,rare")
	in := Inputs{Train: text("t.csv", "text,label\n"+strings.Join(lines, "\n"))}
	texts := func(s shelf, split Split) map[string]bool {
		set := map[string]bool{}
		for _, row := range s.rows(t, split) {
			set[row.Text] = true
		}
		return set
	}
	seen := map[string]bool{}
	for seed := range uint64(20) {
		m, _, s := freeze(t, FreezeOptions{Seed: seed}, in)
		if n := m.Splits[Valid].Rows; n < 200 || n > 400 || m.Splits[Valid].Leaks != 0 || m.Splits[Train].Classes["rare"] != 1 {
			t.Errorf("seed %d: %+v", seed, m.Splits)
		}
		train := texts(s, Train)
		for text := range texts(s, Valid) {
			if train[text] {
				t.Fatalf("seed %d: %q is on both sides", seed, text)
			}
			seen[text] = true
		}
		if seed == 0 {
			again, _, _ := freeze(t, FreezeOptions{Seed: seed}, in)
			a, _ := m.Digest()
			b, _ := again.Digest()
			if a != b || a == "" {
				t.Error("the same input gives another digest")
			}
		}
	}
	if len(seen) < 700 {
		t.Errorf("20 seeds choose among %d of 1000 texts", len(seen))
	}
}

func TestFreezeErrors(t *testing.T) {
	good := text("t.csv", "text,label\na,x\nb,y\n")
	for _, test := range []struct {
		name string
		opts FreezeOptions
		in   Inputs
		want string
	}{
		{"no columns", FreezeOptions{}, Inputs{Train: text("t.csv", "title,topic\na,b\n")},
			`t.csv: no column "text"; the columns are: title, topic — say which columns to read with --columns, for example --columns text=title,label=topic`},
		{"semicolons", FreezeOptions{}, Inputs{Train: text("t.csv", "text;label\na;b\n")}, "separate the columns with commas"},
		{"column absent", FreezeOptions{Columns: Columns{Text: []string{"text"}, Label: []string{"topic"}}}, Inputs{Train: good}, `no column "topic"`},
		{"valid without labels", FreezeOptions{}, Inputs{Train: good, Valid: text("v.csv", "text\na\n")}, `v.csv: no column "label"`},
		{"labels needed", FreezeOptions{NeedLabel: true}, Inputs{Train: text("t.csv", "text\na\n")}, `no column "label"`},
		{"zero classes", FreezeOptions{Labels: []string{}}, Inputs{Train: good}, "there are no labels"},
		{"one class", FreezeOptions{}, Inputs{Train: text("t.csv", "text,label\na,x\nb,x\n")}, `every row has the label "x" — a classifier needs at least two labels`},
		{"no rows", FreezeOptions{}, Inputs{Train: text("t.csv", "text,label\n")}, "the file has no rows"},
		{"no good row", FreezeOptions{}, Inputs{Train: text("t.csv", "text,label\n,x\n")}, "no row can be used; line 2: empty text"},
		{"another encoding", FreezeOptions{}, Inputs{Train: text("t.csv", "text,label\n\xc8\xd5,x\n")}, "invalid UTF-8 — save the file as UTF-8"},
		{"empty test", FreezeOptions{}, Inputs{Train: good, Test: text("v.csv", "text,label\na,z\n")}, "v.csv: no row can be used; line 2: label not in the set: z"},
		{"no train", FreezeOptions{}, Inputs{}, "train: no file is given"},
		{"name", FreezeOptions{Name: "A b"}, Inputs{Train: good}, "is not a name"},
		{"fraction", FreezeOptions{ValidFraction: 1}, Inputs{Train: good}, "is not a share"},
		{"format", FreezeOptions{Format: "xml"}, Inputs{Train: good}, `"xml" is not a format`},
		{"open", FreezeOptions{}, Inputs{Train: &Input{"t.csv", func() (io.ReadCloser, error) { return nil, os.ErrPermission }}}, "permission denied"},
		{"many labels", FreezeOptions{}, Inputs{Train: text("t.csv", "text,label\n"+manyLabels())}, "more than 10000 labels"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.opts.Name == "" {
				test.opts.Name = "news"
			}
			if test.opts.Format == "" {
				test.opts.Format = CSV
			}
			_, _, err := Freeze(t.Context(), test.opts, test.in, shelf{}.sink)
			if err == nil || !strings.Contains(err.Error(), test.want) || galley.CodeOf(err) == galley.Internal {
				t.Errorf("%v; want %q", err, test.want)
			}
		})
	}
}

func manyLabels() string {
	var b strings.Builder
	for i := range MaxLabels + 1 {
		fmt.Fprintf(&b, "t,l%d\n", i)
	}
	return b.String()
}

func TestFreezeFailures(t *testing.T) {
	in := Inputs{Train: text("t.csv", "text,label\n"+strings.Repeat("some text,a\nother text,b\n", 5000))}
	opts := FreezeOptions{Name: "news", Format: CSV}
	full := fmt.Errorf("write: %w", syscall.ENOSPC)
	_, _, err := Freeze(t.Context(), opts, in, func(Split) (io.Writer, error) { return failing{full}, nil })
	if galley.CodeOf(err) != galley.ResourceExhausted || !errors.Is(err, full) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err = Freeze(ctx, opts, in, shelf{}.sink); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	opts.TempDir = filepath.Join(t.TempDir(), "absent")
	in.Train = text("t.csv", "text,label\n"+manyRows(300_000))
	if _, _, err = Freeze(t.Context(), opts, in, shelf{}.sink); galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), "temporary file") {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func manyRows(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d,l%d\n", i, i%3)
	}
	return b.String()
}

// Rejections are kept up to a bound and counted beyond it.
func TestFreezeManyRejections(t *testing.T) {
	_, rejected, _ := freeze(t, FreezeOptions{}, Inputs{Train: text("t.csv", "text,label\na,x\nb,y\n"+strings.Repeat(",x\n", 5000))})
	if len(rejected.First) != maxRejections || rejected.Total != 5000 {
		t.Error(len(rejected.First), rejected.Total)
	}
}

// The census spills to disk, counts exactly, and leaves nothing behind.
func TestCensus(t *testing.T) {
	dir := t.TempDir()
	c := newCensus(dir)
	const n = 200_000
	for i := range uint64(n) {
		for range 1 + i%2 {
			if err := c.add(derive(i), Train); err != nil {
				t.Fatal(err)
			}
		}
		if i%10 == 0 {
			_ = c.add(derive(i), Test)
			_ = c.add(derive(i+n), Valid)
		}
	}
	duplicates, leaks, err := c.count()
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(duplicates, leaks); got != "map[test:0 train:100000 valid:0] map[test:20000 valid:0]" {
		t.Error(got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Error("nothing was spilled")
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Error(left)
	}
}

func TestFreezeShared(t *testing.T) {
	for _, test := range []struct {
		name, columns    string
		train, test      int64
		classes, foreign int
	}{
		{"ag_news", "text=title+description,label=label", 5600, 1000, 4, 0},
		{"thucnews", "text=title,label=label", 16000, 2000, 10, 18000},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := sharedData(t, test.name)
			columns, err := ParseColumns(test.columns)
			if err != nil {
				t.Fatal(err)
			}
			m, rejected, _ := freeze(t, FreezeOptions{Columns: columns}, Inputs{Train: file(filepath.Join(dir, "train.csv")), Test: file(filepath.Join(dir, "test.csv"))})
			if n := m.Splits[Train].Rows + m.Splits[Valid].Rows; n != test.train || m.Splits[Test].Rows != test.test || len(m.Labels) != test.classes || rejected.Total != 0 {
				t.Errorf("%+v %+v", m.Splits, rejected)
			}
			t.Logf("%+v", m.Splits)
		})
	}
}

// sharedData finds a folder of the data that lies beside the repository.
func sharedData(t *testing.T, name string) string {
	t.Helper()
	root, err := os.Getwd()
	for err == nil {
		if _, statErr := os.Stat(filepath.Join(root, "go.mod")); statErr == nil {
			break
		}
		if root == filepath.Dir(root) {
			t.Fatal("no go.mod above the test")
		}
		root = filepath.Dir(root)
	}
	dir := filepath.Join(root, "..", "shared", "data", name)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the shared data %s is not here", name)
	}
	return dir
}

func BenchmarkFreeze(b *testing.B) {
	content := "text,label\n" + manyRows(100_000)
	in := Inputs{Train: text("t.csv", content)}
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		_, _, err := Freeze(b.Context(), FreezeOptions{Name: "b", Format: CSV, TempDir: b.TempDir()}, in, func(Split) (io.Writer, error) { return io.Discard, nil })
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100_000, "ns/row")
}

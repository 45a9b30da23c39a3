package dataset

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"galley"
)

// recordFile returns the bytes of a record file of rows.
func recordFile(t testing.TB, rows []Row) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewRecordWriter(&b)
	for _, row := range rows {
		if err := w.Append(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// memory opens a record file of rows.
func memory(t testing.TB, rows []Row) *Records {
	t.Helper()
	b := recordFile(t, rows)
	r, err := OpenRecords("rows", bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func numbered(n int) []Row {
	rows := make([]Row, n)
	for i := range rows {
		rows[i] = Row{Text: strings.Repeat("w ", i%37) + string(rune('a'+i%26)), Label: string(rune('A' + i%3)), Language: "en"}
	}
	return rows
}

func TestRecordsRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, blockRows - 1, blockRows, blockRows + 1, 3*blockRows + 17} {
		rows := numbered(n)
		r := memory(t, rows)
		if r.Len() != n {
			t.Fatalf("%d rows, want %d", r.Len(), n)
		}
		for i := range rows {
			if got, err := r.At(i); err != nil || got != rows[i] {
				t.Fatalf("row %d of %d: %v %v", i, n, got, err)
			}
		}
		for _, i := range []int{-1, n} {
			if _, err := r.At(i); galley.CodeOf(err) != galley.OutOfRange {
				t.Fatal(err)
			}
		}
	}
}

func TestRecordsAnyText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row := Row{
			Text:     string(rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "text")),
			Label:    rapid.StringN(0, 20, MaxLabel).Draw(t, "label"),
			Language: rapid.StringN(0, 8, MaxLanguage).Draw(t, "language"),
		}
		var b bytes.Buffer
		w := NewRecordWriter(&b)
		if err := w.Append(row); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := OpenRecords("rows", bytes.NewReader(b.Bytes()), int64(b.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.At(0); err != nil || got != row {
			t.Fatal(got, err)
		}
	})
}

// Every damaged byte and every shorter file is an error, never another row.
func TestRecordsDamage(t *testing.T) {
	rows := []Row{{"first text", "A", "en"}, {"第二", "B", "zh"}, {"third", "A", "en"}}
	whole := recordFile(t, rows)
	read := func(b []byte) (err error) {
		r, err := OpenRecords("rows", bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return err
		}
		for i := range r.Len() {
			row, err := r.At(i)
			if err != nil {
				return err
			}
			if row != rows[i] {
				t.Fatalf("row %d is %v", i, row)
			}
		}
		return nil
	}
	if err := read(whole); err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 1 << (i % 8)
		if err := read(damaged); galley.CodeOf(err) != galley.DataLoss {
			t.Errorf("byte %d: %v", i, err)
		}
		if err := read(whole[:i]); galley.CodeOf(err) != galley.DataLoss {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
}

func TestRecordsBounds(t *testing.T) {
	for _, row := range []Row{{Text: strings.Repeat("x", MaxText+1)}, {Label: strings.Repeat("x", MaxLabel+1)}, {Language: strings.Repeat("x", MaxLanguage+1)}} {
		if err := NewRecordWriter(new(bytes.Buffer)).Append(row); galley.CodeOf(err) != galley.OutOfRange {
			t.Error(err)
		}
	}
	if _, err := OpenRecordsFile(filepath.Join(t.TempDir(), "absent")); galley.CodeOf(err) != galley.NotFound {
		t.Error(err)
	}
}

func FuzzRecords(f *testing.F) {
	f.Add(recordFile(f, nil))
	f.Add(recordFile(f, []Row{{"a", "A", "en"}, {"b", "B", "zh"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := OpenRecords("rows", bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for i := range min(r.Len(), 1000) {
			if _, err := r.At(i); err != nil && galley.CodeOf(err) != galley.DataLoss {
				t.Fatal(err)
			}
		}
	})
}

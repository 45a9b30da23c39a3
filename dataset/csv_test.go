package dataset

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// scan reads a whole source: its records as fields, and its bad rows.
func scan(t *testing.T, src source) (rows [][]string, lines []int64, bad []badRow) {
	t.Helper()
	src.want(src.columns())
	for {
		rec, err := src.next()
		var b *badRow
		switch {
		case err == nil:
			rows = append(rows, slices.Clone(rec.values))
			lines = append(lines, rec.line)
		case errors.As(err, &b):
			bad = append(bad, *b)
		case errors.Is(err, io.EOF):
			return rows, lines, bad
		default:
			t.Fatal(err)
		}
	}
}

func TestCSV(t *testing.T) {
	long := strings.Repeat("x", maxRecord)
	for _, test := range []struct {
		name, in string
		rows     [][]string
		lines    []int64
		bad      []badRow
	}{
		{"plain", "a,b\n1,2\n3,4\n", [][]string{{"1", "2"}, {"3", "4"}}, []int64{2, 3}, nil},
		{"BOM and CRLF", "\ufeffa,b\r\n1,2\r\n", [][]string{{"1", "2"}}, []int64{2}, nil},
		{"no end at the end", "a,b\n1,", [][]string{{"1", ""}}, []int64{2}, nil},
		{"blank lines", "a,b\n\n\r\n1,2\n\n", [][]string{{"1", "2"}}, []int64{4}, nil},
		{"quotes", "a,b\n\"1,\"\"x\"\"\",\"\"\n", [][]string{{`1,"x"`, ""}}, []int64{2}, nil},
		{"lines in quotes", "a,b\n\"1\n2\",3\n4,5\n", [][]string{{"1\n2", "3"}, {"4", "5"}}, []int64{2, 4}, nil},
		{"fields", "a,b\n1\n1,2,3\n4,5\n", [][]string{{"4", "5"}}, []int64{4},
			[]badRow{{2, "1 fields where the header has 2"}, {3, "3 fields where the header has 2"}}},
		{"bare quote", "a,b\n1,x\"y\n4,5\n", [][]string{{"4", "5"}}, []int64{3}, []badRow{{2, errBareQuote.Error()}}},
		{"text after quote", "a,b\n1,\"x\"y\n4,5\n", [][]string{{"4", "5"}}, []int64{3}, []badRow{{2, errAfterQuote.Error()}}},
		{"open quote at the end", "a,b\n1,\"x\n4,5\n6,7", [][]string{{"4", "5"}, {"6", "7"}}, []int64{3, 4}, []badRow{{2, errOpenQuote.Error()}}},
		{"open quote meets another", "a,b\n1,\"x\n4,5\n6,\"7\"\n8,9", [][]string{{"4", "5"}, {"6", "7"}, {"8", "9"}}, []int64{3, 4, 5},
			[]badRow{{2, errAfterQuote.Error()}}},
		{"long", "a\n" + long + "\n1\n", [][]string{{"1"}}, []int64{3}, []badRow{{2, errLongCSV.Error()}}},
		{"long in quotes", "a\n\"" + long + "\n2\n\"1\"\n", [][]string{{"2"}, {"1"}}, []int64{3, 4}, []badRow{{2, errLongCSV.Error()}}},
		{"too many fields", "a\n" + strings.Repeat(",", maxColumns) + "\n1\n", [][]string{{"1"}}, []int64{3}, []badRow{{2, errManyFields.Error()}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(test.in), iotest.HalfReader(strings.NewReader(test.in))} {
				src, err := newCSVSource("f.csv", r)
				if err != nil {
					t.Fatal(err)
				}
				rows, lines, bad := scan(t, src)
				if !slices.EqualFunc(rows, test.rows, slices.Equal) || !slices.Equal(lines, test.lines) || !slices.Equal(bad, test.bad) {
					t.Fatalf("rows %q at %v, bad %v", rows, lines, bad)
				}
			}
		})
	}
}

func TestCSVHeaderErrors(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", "f.csv: the file is empty"},
		{"a\"b\n", "broken quote"},
		{"a,a\n", `two columns are named "a"`},
		{"\xff\xfea\x00", "UTF-16"},
		{"\xc8\xd5\n", "not valid UTF-8"},
	} {
		if _, err := newCSVSource("f.csv", strings.NewReader(test.in)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v; want %q", test.in, err, test.want)
		}
	}
}

func TestCSVReadFailure(t *testing.T) {
	broken := io.MultiReader(strings.NewReader("a\n1\n"), iotest.ErrReader(errors.New("the disk is gone")))
	if _, err := newCSVSource("f.csv", broken); err == nil || !strings.Contains(err.Error(), "the disk is gone") {
		t.Fatal(err)
	}
}

// What encoding/csv writes and reads is read the same here.
func TestCSVAgreesWithEncodingCSV(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		columns := rapid.IntRange(1, 4).Draw(t, "columns")
		cell := rapid.StringOfN(rapid.SampledFrom([]rune("ab新,\"\n ;\t")), 0, 6, -1)
		var rows [][]string
		for range rapid.IntRange(0, 8).Draw(t, "rows") {
			rows = append(rows, rapid.SliceOfN(cell, columns, columns).Draw(t, "row"))
		}
		var b bytes.Buffer
		w := csv.NewWriter(&b)
		w.UseCRLF = rapid.Bool().Draw(t, "crlf")
		_ = w.Write([]string{"a", "b", "c", "d"}[:columns])
		_ = w.WriteAll(rows)
		fields, pos := []string{}, 0
		for i := -1; i < len(rows); i++ {
			var n int
			var err error
			if fields, n, err = parseCSV(fields[:0], b.Bytes()[pos:], true); err != nil {
				t.Fatal(err)
			}
			pos += n
			if i < 0 {
				continue
			}
			want := rows[i]
			if columns == 1 && want[0] == "" { // written as a blank line or as ""
				continue
			}
			got := strings.Join(fields, "|")
			if w.UseCRLF {
				got = strings.ReplaceAll(got, "\r\n", "\n")
			}
			if got != strings.Join(want, "|") {
				t.Fatalf("row %d: %q, want %q", i, fields, want)
			}
		}
	})
}

// A row read from a part of the file is the row read from the whole.
func TestCSVPartial(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := []byte(rapid.StringOfN(rapid.SampledFrom([]rune("a,\"\r\n")), 0, 20, -1).Draw(t, "in"))
		fields, n, err := parseCSV(nil, in, true)
		cut := rapid.IntRange(0, len(in)).Draw(t, "cut")
		part, m, partErr := parseCSV(nil, in[:cut], false)
		if errors.Is(partErr, errPartialCSV) {
			return
		}
		if m != n || !errors.Is(partErr, err) || !slices.Equal(part, fields) {
			t.Fatalf("%q cut at %d: %q %d %v; want %q %d %v", in, cut, part, m, partErr, fields, n, err)
		}
	})
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte("text,label\na,b\n\"x\"\"y\",\"\n"))
	f.Add([]byte("\xef\xbb\xbftext\r\n\"a\r\nb\"\r\n\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		src, err := newCSVSource("f.csv", bytes.NewReader(in))
		if err != nil {
			return
		}
		rows, _, bad := scan(t, src)
		if n := bytes.Count(in, []byte{'\n'}) + 1; len(rows)+len(bad) > n {
			t.Fatalf("%d rows of %d lines", len(rows)+len(bad), n)
		}
	})
}

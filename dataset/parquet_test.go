package dataset

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"galley"
)

// An article is a row of the Parquet files that the tests write.
type article struct {
	Title  string   `parquet:"title,dict"`
	Body   *string  `parquet:"body,optional,snappy"`
	Topic  int32    `parquet:"topic"`
	Score  float64  `parquet:"score"`
	Tags   []string `parquet:"tags,list"`
	Urgent bool     `parquet:"urgent"`
	Views  int64    `parquet:"views,delta"`
}

func articles(n int) []article {
	rows := make([]article, n)
	for i := range rows {
		rows[i] = article{Title: fmt.Sprintf("标题 %d", i%7), Topic: int32(i % 3), Urgent: i%2 == 0, Views: -int64(i)}
		if i%5 != 0 {
			body := fmt.Sprintf("body %d", i)
			rows[i].Body = &body
		}
	}
	return rows
}

func parquetFile(t testing.TB, rows []article, perGroup int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[article](&b, parquet.MaxRowsPerRowGroup(int64(perGroup)), parquet.PageBufferSize(512))
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// seekable makes an input of bytes that can be read at random.
func seekable(name string, b []byte) *Input {
	return &Input{Name: name, Open: func() (io.ReadCloser, error) {
		return struct {
			*io.SectionReader
			io.Closer
		}{io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))), io.NopCloser(nil)}, nil
	}}
}

func TestParquet(t *testing.T) {
	rows := articles(1000)
	in := seekable("a.parquet", parquetFile(t, rows, 300))
	columns := Columns{Text: []string{"title", "body"}, Label: []string{"topic", "urgent", "views"}}
	rejected := new(Rejections)
	i := 0
	for row, err := range Read(t.Context(), *in, ReadOptions{Format: Parquet, Columns: columns}, rejected) {
		if err != nil {
			t.Fatal(err)
		}
		want := rows[i].Title
		if rows[i].Body != nil {
			want += " " + *rows[i].Body
		}
		label := fmt.Sprintf("%d %v %d", rows[i].Topic, rows[i].Urgent, rows[i].Views)
		if row != (Row{Text: want, Label: label, Language: "zh"}) {
			t.Fatalf("row %d: %+v", i, row)
		}
		i++
	}
	if i != len(rows) || rejected.Total != 0 {
		t.Error(i, rejected)
	}
}

func TestParquetRejections(t *testing.T) {
	rows := articles(4)
	bad := "\xff"
	rows[2].Body = &bad
	in := seekable("a.parquet", parquetFile(t, rows, 2))
	rejected := new(Rejections)
	for _, err := range Read(t.Context(), *in, ReadOptions{Format: Parquet, Columns: Columns{Text: []string{"body"}}}, rejected) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if want := []Rejection{{"a.parquet", 1, "empty text"}, {"a.parquet", 3, "invalid UTF-8"}}; !slices.Equal(rejected.First, want) {
		t.Error(rejected)
	}
}

// hugePage is a file whose one page claims two gigabytes.
const hugePage = "PAR1" +
	"\x15\x00\x15\xfe\xff\xff\xff\x0f\x15\xfe\xff\xff\xff\x0f\x2c\x15\x02\x15\x00\x00\x00" + // the page's header
	"\x29\x2c\x48\x04root\x00\x15\x0c\x38\x05title\x00" + // the schema
	"\x29\x1c\x19\x1c\x3c\x15\x0c\x86\x08\x00\x00\x26\x02\x00\x00" + // a row group
	"\x22\x00\x00\x00PAR1"

func TestParquetErrors(t *testing.T) {
	whole := parquetFile(t, articles(100), 50)
	huge := bytes.Clone(whole)
	copy(huge[len(huge)-8:], "\xff\xff\xff\xff")
	for _, test := range []struct {
		name, columns, want string
		data                []byte
	}{
		{"not parquet", "text=title", "not a readable Parquet file", []byte("text,label\na,b\nc,d\n")},
		{"empty", "text=title", "the file is too short", nil},
		{"huge footer", "text=title", "the footer claims", huge},
		{"huge page", "text=title", "a page is too large to be read", []byte(hugePage)},
		{"truncated", "text=title", "not a readable Parquet file", whole[:len(whole)-100]},
		{"list", "text=tags", `column "tags" is a list or a group`, whole},
		{"absent", "", `no column "text"; the columns are: title, body, topic`, whole},
		{"float", "text=score", `no row can be used; line 1: wrong type: "score"`, whole},
	} {
		t.Run(test.name, func(t *testing.T) {
			columns, _ := ParseColumns(test.columns)
			_, _, err := Freeze(t.Context(), FreezeOptions{Name: "a", Format: Parquet, Columns: columns},
				Inputs{Train: seekable("a.parquet", test.data)}, shelf{}.sink)
			if err == nil || !strings.Contains(err.Error(), test.want) || galley.CodeOf(err) != galley.InvalidArgument {
				t.Errorf("%v; want %q", err, test.want)
			}
		})
	}
	_, _, err := Freeze(t.Context(), FreezeOptions{Name: "a", Format: Parquet}, Inputs{Train: text("a.parquet", string(whole))}, shelf{}.sink)
	if err == nil || !strings.Contains(err.Error(), "random access") {
		t.Error(err)
	}
}

// A damaged file is an error or other rows, never a panic.
func FuzzParquet(f *testing.F) {
	f.Add(parquetFile(f, articles(20), 7))
	f.Fuzz(func(t *testing.T, b []byte) {
		src, err := newParquetSource("a.parquet", bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		defer src.release()
		src.want([]string{src.columns()[0]})
		for range 1000 {
			if _, err := src.next(); err != nil {
				return
			}
		}
	})
}

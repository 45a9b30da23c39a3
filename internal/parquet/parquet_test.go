package parquet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	peer "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/encoding"
)

// text is what a value is as the tests compare it.
func text(v Value) string {
	switch {
	case v.Null:
		return "null"
	case v.Kind == Bytes || v.Kind == Fixed:
		return fmt.Sprintf("%q", v.Bytes)
	default:
		return fmt.Sprint(v.Int)
	}
}

// readAll reads columns of a file, all if none is named.
func readAll(data []byte, columns ...int) (rows [][]string, err error) {
	f, err := Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	if columns == nil {
		for i := range f.Columns() {
			columns = append(columns, i)
		}
	}
	r, err := f.Rows(columns...)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	values := make([]Value, len(columns))
	for {
		if err := r.Next(values); errors.Is(err, io.EOF) {
			return rows, nil
		} else if err != nil {
			return rows, err
		}
		row := make([]string, len(values))
		for i, v := range values {
			row[i] = text(v)
		}
		rows = append(rows, row)
	}
}

// What parquet-go writes, in every encoding and codec and both versions of
// pages, is read as it was written.
func TestReadsWhatIsWritten(t *testing.T) {
	nodes := map[string]peer.Node{}
	add := func(name string, n peer.Node, encodings ...encoding.Encoding) {
		for _, e := range encodings {
			n := peer.Encoded(n, e)
			nodes[name+" "+e.String()], nodes[name+" "+e.String()+" with nulls"] = n, peer.Optional(n)
		}
	}
	add("text", peer.String(), &peer.Plain, &peer.DeltaLengthByteArray, &peer.DeltaByteArray, &peer.RLEDictionary)
	add("id", peer.UUID(), &peer.Plain, &peer.DeltaByteArray, &peer.RLEDictionary, &peer.ByteStreamSplit)
	add("small", peer.Int(32), &peer.Plain, &peer.DeltaBinaryPacked, &peer.RLEDictionary, &peer.ByteStreamSplit)
	add("large", peer.Int(64), &peer.Plain, &peer.DeltaBinaryPacked, &peer.RLEDictionary, &peer.ByteStreamSplit)
	add("flag", peer.Leaf(peer.BooleanType), &peer.Plain, &peer.RLE)
	for _, codec := range []compress.Codec{nil, &peer.Snappy, &peer.Gzip, &peer.Brotli, &peer.Zstd, &peer.Lz4Raw} {
		for version := 1; version <= 2; version++ {
			group := peer.Group{}
			for name, n := range nodes {
				if codec != nil {
					n = peer.Compressed(n, codec)
				}
				group[name] = n
			}
			data, want := write(t, peer.NewSchema("rows", group), version)
			got, err := readAll(data)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				for i := range got {
					for c := range got[i] {
						if got[i][c] != want[i][c] {
							t.Fatalf("%v, version %d: row %d, column %d: %.100s, want %.100s", codec, version, i, c, got[i][c], want[i][c])
						}
					}
				}
				t.Errorf("%v, version %d: %d rows of %d, %v", codec, version, len(got), len(want), err)
			}
		}
	}
}

// write writes random rows of a schema, in groups and small pages.
func write(t *testing.T, schema *peer.Schema, version int) (data []byte, want [][]string) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, uint64(version)))
	var b bytes.Buffer
	w := peer.NewWriter(&b, schema, peer.DataPageVersion(version), peer.PageBufferSize(300))
	for i := range 300 {
		var row peer.Row
		var texts []string
		for c, field := range schema.Fields() {
			v, s := value(r, field)
			level := 0
			switch {
			case field.Optional() && r.IntN(3) == 0:
				v, s = peer.NullValue(), "null"
			case field.Optional():
				level = 1
			}
			row, texts = append(row, v.Level(0, level, c)), append(texts, s)
		}
		if _, err := w.WriteRows([]peer.Row{row}); err != nil {
			t.Fatal(err)
		}
		want = append(want, texts)
		if i%120 == 119 {
			if err := w.Flush(); err != nil { // another row group
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), want
}

func value(r *rand.Rand, field peer.Field) (peer.Value, string) {
	n := r.Uint64() >> r.UintN(64)
	if r.IntN(2) == 0 {
		n = -n
	}
	switch field.Type().Kind() {
	case peer.ByteArray:
		b := []byte(strings.Repeat("标题", r.IntN(4)) + fmt.Sprint(n%50))
		return peer.ByteArrayValue(b), fmt.Sprintf("%q", b)
	case peer.FixedLenByteArray:
		b := fmt.Appendf(nil, "%016d", n%50)
		return peer.FixedLenByteArrayValue(b), fmt.Sprintf("%q", b)
	case peer.Int32:
		return peer.Int32Value(int32(n)), fmt.Sprint(int32(n))
	case peer.Int64:
		return peer.Int64Value(int64(n)), fmt.Sprint(int64(n))
	default:
		return peer.BooleanValue(n&1 == 1), fmt.Sprint(n & 1)
	}
}

// Columns that are not wanted are not looked at; one may be wanted twice.
func TestSomeColumns(t *testing.T) {
	type row struct {
		Tags  []string          `parquet:"tags,list"`
		Title string            `parquet:"title"`
		More  map[string]string `parquet:"more"`
		Score float64           `parquet:"score"`
		Views int64             `parquet:"views"`
	}
	var b bytes.Buffer
	w := peer.NewGenericWriter[row](&b)
	if _, err := w.Write([]row{{[]string{"a", "b"}, "one", nil, 1, 10}, {nil, "two", map[string]string{"k": "v"}, 2, 20}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := Open(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]int{}
	for i, c := range f.Columns() {
		at[c.Name] = i
		if c.Flat != (c.Name != "tags" && c.Name != "more") {
			t.Errorf("%+v", c)
		}
	}
	if _, err := f.Rows(at["tags"]); err == nil || !strings.Contains(err.Error(), "is a list or a group") {
		t.Error(err)
	}
	rows, err := readAll(b.Bytes(), at["views"], at["title"], at["views"], at["score"])
	if err != nil || fmt.Sprint(rows) != `[[10 "one" 10 0] [20 "two" 20 0]]` {
		t.Errorf("%v %v", rows, err)
	}
}

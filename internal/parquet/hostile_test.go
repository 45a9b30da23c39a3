package parquet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// What follows writes metadata as the format's compact protocol has it, with
// any content.

func zigzag(n int64) []byte { return binary.AppendVarint(nil, n) }

func uvarint(n uint64) []byte { return binary.AppendUvarint(nil, n) }

func field(id int64, kind byte, value ...[]byte) []byte {
	return bytes.Join(append([][]byte{{kind}, zigzag(id)}, value...), nil)
}

func num(id, n int64) []byte { return field(id, thriftInt64, zigzag(n)) }

func name(id int64, s string) []byte {
	return field(id, thriftBinary, uvarint(uint64(len(s))), []byte(s))
}

func object(fields ...[]byte) []byte { return append(bytes.Join(fields, nil), 0) }

func inside(id int64, fields ...[]byte) []byte { return field(id, thriftStruct, object(fields...)) }

func list(id int64, items ...[]byte) []byte { return claims(id, uint64(len(items)), items...) }

// claims is a list that says that it has so many items.
func claims(id int64, n uint64, items ...[]byte) []byte {
	return field(id, thriftList, []byte{0xf0 | thriftStruct}, uvarint(n), bytes.Join(items, nil))
}

// A page is one that says what it likes.
type page struct {
	kind             int64
	values, encoding int64
	packed, unpacked int64 // those of data, if 0
	data             []byte
}

func (p page) bytes() []byte {
	if p.packed == 0 {
		p.packed = int64(len(p.data))
	}
	if p.unpacked == 0 {
		p.unpacked = int64(len(p.data))
	}
	about := 5 + p.kind // of a data page, or of a dictionary
	return append(object(num(1, p.kind), num(2, p.unpacked), num(3, p.packed), inside(about, num(1, p.values), num(2, p.encoding))), p.data...)
}

// A column is one of a file with one row group.
type column struct {
	kind, codec, repetition int64
	pages                   []page
}

func fileOf(rows int64, columns ...column) []byte {
	out := []byte("PAR1")
	schema := [][]byte{object(name(4, "rows"), num(5, int64(len(columns))))}
	var chunks [][]byte
	for _, c := range columns {
		schema = append(schema, object(num(1, c.kind), num(2, 16), num(3, c.repetition), name(4, "text")))
		chunks = append(chunks, object(inside(3, num(1, c.kind), num(4, c.codec), num(9, int64(len(out))))))
		for _, p := range c.pages {
			out = append(out, p.bytes()...)
		}
	}
	return footed(out, object(list(2, schema...), list(4, object(list(1, chunks...), num(3, rows)))))
}

func footed(data, footer []byte) []byte {
	data = binary.LittleEndian.AppendUint32(append(data, footer...), uint32(len(footer)))
	return append(data, "PAR1"...)
}

// packed is so many zeros, in the form of a codec.
func packed(t testing.TB, codec int64, zeros int) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch codec {
	case gzipCodec:
		w = gzip.NewWriter(&b)
	case brotliCodec:
		w = brotli.NewWriter(&b)
	case zstdCodec:
		w, _ = zstd.NewWriter(&b)
	default: // blocks of one literal and copies of it
		return nil
	}
	piece := make([]byte, 1<<20)
	for range zeros >> 20 {
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// delta is a block of differences that are all the same, for a great many
// values.
func delta(values uint64, first, each int64) []byte {
	head := bytes.Join([][]byte{uvarint(1 << 24), uvarint(1), uvarint(values), zigzag(first)}, nil)
	for range values/(1<<24) + 1 {
		head = append(append(head, zigzag(each)...), 0)
	}
	return head
}

// Whatever a file says, it takes no more memory than it may, and its error
// says why.
func TestHostileFiles(t *testing.T) {
	one := func(c column, p ...page) []byte {
		c.pages = p
		return fileOf(1<<40, c)
	}
	text := column{kind: int64(Bytes)}
	coded := func(codec int64) column { return column{kind: int64(Bytes), codec: codec} }
	huge := page{values: 1, packed: MaxPage, unpacked: MaxPage}
	const few, all = 4 << 20, MaxHeld + 64<<20
	for what, test := range map[string]struct {
		data []byte
		want string
		most uint64
	}{
		"gzip bomb":             {one(coded(gzipCodec), page{values: 9, unpacked: 100, data: packed(t, gzipCodec, 16<<20)}), "unpacks to more than it says", few},
		"zstd bomb":             {one(coded(zstdCodec), page{values: 9, unpacked: 100, data: packed(t, zstdCodec, 16<<20)}), "cannot be unpacked", few},
		"brotli bomb":           {one(coded(brotliCodec), page{values: 9, unpacked: 100, data: packed(t, brotliCodec, 16<<20)}), "unpacks to more than it says", 20 << 20}, // its window
		"snappy bomb":           {one(coded(snappyCodec), page{values: 9, unpacked: 100, data: uvarint(1 << 31)}), "unpacks to more than it says", few},
		"lz4 that is none":      {one(coded(lz4Codec), page{values: 9, unpacked: 100, data: []byte{0xff, 0xff, 0xff}}), "cannot be unpacked", few},
		"huge page":             {one(text, page{values: 1, packed: math.MaxInt32}), "a page is too large to be read", few},
		"unpacks to huge":       {one(coded(gzipCodec), page{values: 1, packed: 9, unpacked: math.MaxInt32}), "a page is too large to be read", few},
		"negative page":         {one(text, page{values: 1, packed: -1, unpacked: -1}), "the size of a page is -1", few},
		"claims a page":         {one(text, huge), "unexpected EOF", all},
		"many huge pages":       {fileOf(1, many(9, column{kind: int64(Bytes), codec: zstdCodec, pages: []page{{values: 1, unpacked: MaxPage, data: packed(t, zstdCodec, MaxPage)}}})...), "the pages of a row are too large", all},
		"dictionary":            {one(text, page{kind: dictionaryPage, values: math.MaxInt32, data: make([]byte, 1000)}), "a page ends before its values", few},
		"no dictionary":         {one(text, page{values: 1, encoding: dictionaryEncoding, data: []byte{1, 2, 0}}), "there is none", few},
		"index":                 {one(text, page{kind: dictionaryPage, values: 1, data: []byte{1, 0, 0, 0, 'a'}}, page{values: 9, encoding: dictionaryEncoding, data: []byte{32, 2, 255, 255, 255, 255}}), "the value 4294967295 of 1", few},
		"wide numbers":          {one(text, page{kind: dictionaryPage, values: 1, data: []byte{1, 0, 0, 0, 'a'}}, page{values: 9, encoding: dictionaryEncoding, data: []byte{33, 2}}), "33 bits wide", few},
		"many differences":      {one(text, page{values: 9, encoding: deltaLengthEncoding, data: delta(1<<40, 0, 0)}), "differences in blocks", few},
		"blocks of differences": {one(text, page{values: 9, encoding: deltaLengthEncoding, data: bytes.Join([][]byte{uvarint(1 << 62), uvarint(1), uvarint(9), zigzag(0)}, nil)}), "differences in blocks", few},
		"lengths":               {one(text, page{values: 9, encoding: deltaLengthEncoding, data: delta(9, 1<<40, 1)}), "a page ends before its values", few},
		"negative lengths":      {one(text, page{values: 9, encoding: deltaLengthEncoding, data: delta(9, -1, -1)}), "a page ends before its values", few},
		"prefixes":              {one(text, page{values: 9, encoding: deltaBytesEncoding, data: append(delta(9, 5, 0), delta(9, 0, 0)...)}), "begins as one that is shorter", few},
		"lengths of texts":      {one(text, page{values: 9, data: []byte{255, 255, 255, 255, 'a'}}), "a page ends before its values", few},
		"no such encoding":      {one(text, page{values: 9, encoding: 99}), "the encoding 99", few},
		"no such codec":         {one(coded(77), page{values: 9, data: []byte("a")}), "the codec 77", few},
		"no such page":          {one(text, page{kind: 7, values: 9, data: []byte("a")}), "a page of type 7", few},
		"no such type":          {one(column{kind: 77}, page{values: 9}), "of type 77", few},
		"too few values":        {one(text, page{values: 1, data: make([]byte, 4)}), "row 2", few},
		"row groups":            {footed([]byte("PAR1"), object(list(2, object(), object(name(4, "a"))), claims(4, 1<<60))), "it lacks a column", few},
		"columns":               {footed([]byte("PAR1"), object(claims(2, 1<<60, object(), object(name(4, "a"))), list(4))), "the footer", few},
		"chunks":                {footed([]byte("PAR1"), object(list(2, object(), object(name(4, "a"))), list(4, object(claims(1, 1<<60))))), "not described", few},
		"very many columns":     {footed([]byte("PAR1"), object(list(2, bytes.Repeat(object(), maxColumns+2)), list(4))), "the footer", few},
		"long name":             {footed([]byte("PAR1"), object(list(2, object(), object(field(4, thriftBinary, uvarint(1<<40)))), list(4))), "a name has", few},
		"nested":                {footed([]byte("PAR1"), bytes.Repeat([]byte{0x1c}, 100_000)), "nested more than", few},
		"nested lists":          {footed([]byte("PAR1"), append([]byte{0x19}, bytes.Repeat([]byte{0x19}, 100_000)...)), "nested more than", few},
		"no metadata":           {footed([]byte("PAR1"), []byte{0}), "names no columns", few},
		"elsewhere":             {footed([]byte("PAR1"), object(list(2, object(), object(name(4, "a"))), list(4, object(list(1, object(name(1, "/etc/passwd"))))))), "in another file", few},
		"before the file":       {footed([]byte("PAR1"), object(list(2, object(), object(name(4, "a"))), list(4, object(list(1, object(inside(3, num(9, -5)))), num(3, 1))))), "begins at -5", few},
		"negative rows":         {footed([]byte("PAR1"), object(list(2, object(), object(name(4, "a"))), list(4, object(list(1), num(3, -5))))), "it has -5 rows", few},
		"not one":               {[]byte("text,label\na,b\n"), "does not begin and end as one", few},
		"encrypted":             {append(bytes.Repeat([]byte{0}, 12), "PARE"...), "is encrypted", few},
		"empty":                 {nil, "too short", few},
	} {
		t.Run(what, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := readSome(test.data, 100)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 400 {
				t.Errorf("%v, want %q", err, test.want)
			}
			if strings.Contains(test.want, "too large") != errors.Is(err, ErrTooLarge) {
				t.Errorf("%v", err)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > test.most {
				t.Errorf("%d bytes of a file of %d were allocated", took, len(test.data))
			}
		})
	}
}

func many(n int, c column) []column {
	out := make([]column, n)
	for i := range out {
		out[i] = c
	}
	return out
}

// readSome reads rows of all flat columns, so many at most, and keeps none.
func readSome(data []byte, most int) (n int, err error) {
	f, err := Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return 0, err
	}
	var columns []int
	for i, c := range f.Columns() {
		if c.Flat && len(columns) < 20 {
			columns = append(columns, i)
		}
	}
	r, err := f.Rows(columns...)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	for values := make([]Value, len(columns)); n < most; n++ {
		if err := r.Next(values); err != nil {
			return n, err
		}
	}
	return n, nil
}

// Few bytes that stand for very many rows, or for long ones, are read row by
// row.
func TestFewBytesOfManyRows(t *testing.T) {
	long := bytes.Repeat([]byte("a"), 1<<20)
	lengths := bytes.Join([][]byte{uvarint(128), uvarint(1), uvarint(2), zigzag(1 << 20), zigzag(-1 << 20), {0}}, nil)
	for what, data := range map[string][]byte{
		"nulls":       fileOf(1<<40, column{kind: int64(Bytes), repetition: 1, pages: []page{{values: math.MaxInt32, data: append([]byte{6, 0, 0, 0}, append(uvarint(1<<33), 0)...)}}}),
		"runs":        fileOf(1<<40, column{kind: int64(Bytes), pages: []page{{kind: dictionaryPage, values: 1, data: append([]byte{0, 0, 16, 0}, long...)}, {values: math.MaxInt32, encoding: dictionaryEncoding, data: append([]byte{0}, uvarint(1<<40)...)}}}),
		"differences": fileOf(1<<40, column{kind: int64(Int64), pages: []page{{values: math.MaxInt32, encoding: deltaEncoding, data: delta(math.MaxInt32, 1, 1)}}}),
		"prefixes":    fileOf(2, column{kind: int64(Bytes), pages: []page{{values: 2, encoding: deltaBytesEncoding, data: bytes.Join([][]byte{bytes.Join([][]byte{uvarint(128), uvarint(1), uvarint(2), zigzag(0), zigzag(1 << 20), {0}}, nil), lengths, long}, nil)}}}),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n, err := readSome(data, 200_000)
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; err != nil && !errors.Is(err, io.EOF) || n < 2 || took > 8<<20 {
			t.Errorf("%s: %d rows, %d bytes, %v", what, n, took, err)
		}
	}
}

// A damaged file is an error or other rows, and takes no more memory than its
// size explains: pages are bounded here by what they can be of so small files.
func FuzzRead(f *testing.F) {
	f.Add(fileOf(2, column{kind: int64(Bytes), pages: []page{{values: 2, data: []byte{1, 0, 0, 0, 'a', 1, 0, 0, 0, 'b'}}}}))
	f.Add(fileOf(2, column{kind: int64(Bytes), repetition: 1, pages: []page{{values: 2, data: []byte{2, 0, 0, 0, 4, 0, 0}}}}))
	f.Add(fileOf(9, column{kind: int64(Int32), pages: []page{{values: 9, encoding: deltaEncoding, data: delta(9, 1, 1)}}}))
	f.Add(fileOf(9, column{kind: int64(Bytes), pages: []page{{values: 9, encoding: deltaBytesEncoding, data: append(delta(9, 0, 0), delta(9, 0, 0)...)}}}))
	f.Add(fileOf(9, column{kind: int64(Bytes), pages: []page{{kind: dictionaryPage, values: 1, data: []byte{1, 0, 0, 0, 'a'}}, {values: 9, encoding: dictionaryEncoding, data: []byte{1, 18, 0}}}}))
	f.Add(fileOf(9, column{kind: int64(Boolean), pages: []page{{values: 9, encoding: runEncoding, data: []byte{2, 0, 0, 0, 18, 1}}}}))
	f.Add(fileOf(9, column{kind: int64(Fixed), pages: []page{{values: 2, encoding: splitStreamsEncoding, data: make([]byte, 32)}}}))
	for _, codec := range []int64{gzipCodec, brotliCodec, zstdCodec} {
		f.Add(fileOf(9, column{kind: int64(Int64), codec: codec, pages: []page{{values: 9, unpacked: 1 << 20, data: packed(f, codec, 1<<20)}}}))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if n, err := readSome(data, 1000); n > 1000 || n < 1000 && err == nil {
			t.Errorf("%d rows, %v", n, err)
		}
	})
}

package dataset

import (
	"errors"
	"io"
	"io/fs"
	"strings"

	"galley"
)

// A Format is a file format that rows are read from.
type Format string

// The formats of text data.
const (
	CSV     Format = "csv"     // RFC 4180 in UTF-8, with a header
	JSONL   Format = "jsonl"   // one JSON object per line; the columns are the keys of the first
	Parquet Format = "parquet" // top-level columns of strings, integers or booleans
)

// ParseFormat checks the name of a format.
func ParseFormat(s string) (Format, error) {
	switch f := Format(strings.ToLower(s)); f {
	case CSV, JSONL, Parquet:
		return f, nil
	case "images", "audio":
		return "", galley.Errorf(galley.Unimplemented, "format", "%s folders cannot be read yet", f).
			WithRemedy("the formats are csv, jsonl and parquet")
	default:
		return "", galley.Errorf(galley.InvalidArgument, "format", "%q is not a format", galley.Clip(s, 200)).
			WithRemedy("the formats are csv, jsonl and parquet")
	}
}

// An Input is a file of rows. Name is what rejections call it.
//
// Open returns its bytes from the start. For Parquet the reader must also be
// an io.ReaderAt that knows its size, as *os.File, *bytes.Reader and
// *io.SectionReader (with a Close) are.
type Input struct {
	Name string
	Open func() (io.ReadCloser, error)
}

// A record is one row of a file before it is checked: the values of the
// wanted columns, in the order in which they were wanted. A column that the
// row lacks has the empty value.
type record struct {
	line   int64
	values []string
}

// A source reads the records of a file in order. Its next returns io.EOF at
// the end, a *badRow for a row that cannot be read while reading can go on,
// and any other error when it cannot. The record is valid until the next call.
type source interface {
	columns() []string
	want(columns []string)
	next() (record, error)
}

// A badRow is a row that cannot be read.
type badRow struct {
	line int64
	why  string
}

func (b *badRow) Error() string { return b.why }

func newSource(name string, f Format, r io.Reader) (source, error) {
	switch f {
	case CSV:
		return newCSVSource(name, r)
	case JSONL:
		return newJSONLSource(name, r)
	case Parquet:
		at, size, ok := sized(r)
		if !ok {
			return nil, galley.Errorf(galley.Internal, name, "a Parquet file needs random access")
		}
		return newParquetSource(name, at, size)
	default:
		_, err := ParseFormat(string(f))
		return nil, err
	}
}

// sized finds random access and size behind a reader.
func sized(r io.Reader) (io.ReaderAt, int64, bool) {
	at, ok := r.(io.ReaderAt)
	if !ok {
		return nil, 0, false
	}
	switch s := r.(type) {
	case interface{ Size() int64 }:
		return at, s.Size(), true
	case interface{ Stat() (fs.FileInfo, error) }:
		info, err := s.Stat()
		if err != nil {
			return nil, 0, false
		}
		return at, info.Size(), true
	default:
		return nil, 0, false
	}
}

// readError wraps a failure of the reader beneath a source.
func readError(name string, line int64, err error) error {
	var coded *galley.Error
	if errors.As(err, &coded) {
		return err
	}
	return galley.Errorf(galley.CodeOf(err), name, "reading stopped at line %d: %w", line, err)
}

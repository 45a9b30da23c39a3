package dataset

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"galley"
	"galley/internal/parquet"
)

// parquetSource reads the wanted top-level columns side by side, a page of
// each at a time.
type parquetSource struct {
	name   string
	file   *parquet.File
	header []string
	wanted []int // their numbers in the file
	rows   *parquet.Rows
	values []parquet.Value
	row    record
}

func newParquetSource(name string, r io.ReaderAt, size int64) (*parquetSource, error) {
	file, err := parquet.Open(r, size)
	if err != nil {
		return nil, invalidParquet(name, err)
	}
	s := &parquetSource{name: name, file: file}
	for _, column := range file.Columns() {
		s.header = append(s.header, column.Name)
	}
	if len(s.header) > maxColumns {
		return nil, galley.Errorf(galley.InvalidArgument, name, "more than %d columns", maxColumns)
	}
	return s, nil
}

func (s *parquetSource) columns() []string { return s.header }

func (s *parquetSource) want(columns []string) {
	for _, name := range columns {
		s.wanted = append(s.wanted, slices.Index(s.header, name))
	}
	s.row.values = make([]string, len(columns))
	s.values = make([]parquet.Value, len(columns))
}

func (s *parquetSource) next() (row record, err error) {
	if s.rows == nil {
		if err := s.begin(); err != nil {
			return record{}, err
		}
	}
	if err := s.rows.Next(s.values); errors.Is(err, io.EOF) {
		return record{}, io.EOF
	} else if err != nil {
		return record{}, invalidParquet(s.name, err)
	}
	s.row.line++
	var bad *badRow
	for i, value := range s.values {
		text, why := parquetScalar(value)
		if why != "" {
			bad = &badRow{s.row.line, fmt.Sprintf(why, galley.Clip(s.header[s.wanted[i]], 200))}
		}
		s.row.values[i] = text
	}
	if bad != nil {
		return record{}, bad
	}
	return s.row, nil
}

// begin holds that the wanted columns can be read.
func (s *parquetSource) begin() error {
	for _, at := range s.wanted {
		if column := s.file.Columns()[at]; !column.Flat {
			return galley.Errorf(galley.InvalidArgument, s.name, "column %q is a list or a group", galley.Clip(column.Name, 200)).
				WithRemedy("map columns of strings, integers or booleans with --columns")
		}
	}
	var err error
	if s.rows, err = s.file.Rows(s.wanted...); err != nil {
		return invalidParquet(s.name, err)
	}
	return nil
}

// release gives back what reading held.
func (s *parquetSource) release() {
	if s.rows != nil {
		s.rows.Close()
	}
}

// parquetScalar returns the text of a string, an integer or a boolean; of
// null, the empty string. The text is a copy: pages are reused. Else it says
// what is wrong with the value of a column.
func parquetScalar(v parquet.Value) (text, why string) {
	if v.Null {
		return "", ""
	}
	switch v.Kind {
	case parquet.Bytes, parquet.Fixed:
		if len(v.Bytes) > maxRecord {
			return "", "the value of %q is longer than 4 MiB"
		}
		return string(v.Bytes), ""
	case parquet.Int32, parquet.Int64:
		return strconv.FormatInt(v.Int, 10), ""
	case parquet.Boolean:
		return strconv.FormatBool(v.Int != 0), ""
	default:
		return "", "wrong type: %q is not a string, an integer or a boolean"
	}
}

func invalidParquet(name string, err error) error {
	e := galley.Errorf(galley.InvalidArgument, name, "not a readable Parquet file: %w", err)
	if errors.Is(err, parquet.ErrTooLarge) {
		return e.WithRemedy("write the file anew with pages of a megabyte")
	}
	return e.WithRemedy("write the file anew")
}

package dataset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/parquet-go/parquet-go"

	"galley"
)

// maxParquetFooter bounds the metadata of a Parquet file, which its reader
// holds in memory whole.
const maxParquetFooter = 64 << 20

// parquetSource reads the wanted top-level columns side by side, a page of
// each at a time.
type parquetSource struct {
	name    string
	file    *parquet.File
	header  []string
	wanted  []*parquet.Column
	cursors []*parquetCursor
	group   int   // the next row group
	left    int64 // rows of the current one that were not read
	row     record
}

func newParquetSource(name string, r io.ReaderAt, size int64) (s *parquetSource, err error) {
	defer recoverParquet(name, &err)
	if err := checkParquetFooter(r, size); err != nil {
		return nil, invalidParquet(name, err)
	}
	file, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, invalidParquet(name, err)
	}
	s = &parquetSource{name: name, file: file}
	for _, column := range file.Root().Columns() {
		s.header = append(s.header, column.Name())
	}
	if len(s.header) > maxColumns {
		return nil, galley.Errorf(galley.InvalidArgument, name, "more than %d columns", maxColumns)
	}
	return s, nil
}

// checkParquetFooter refuses a footer that is larger than the file or than
// what should be held in memory, before the library allocates it.
func checkParquetFooter(r io.ReaderAt, size int64) error {
	var end [8]byte
	if size < 12 {
		return errors.New("the file is too short")
	}
	if n, err := r.ReadAt(end[:], size-8); n < len(end) {
		return err
	}
	if footer := int64(binary.LittleEndian.Uint32(end[:])); footer > size-12 || footer > maxParquetFooter {
		return fmt.Errorf("the footer claims %d bytes", footer)
	}
	return nil
}

func (s *parquetSource) columns() []string { return s.header }

func (s *parquetSource) want(columns []string) {
	root := s.file.Root()
	for _, name := range columns {
		s.wanted = append(s.wanted, root.Column(name))
	}
	s.row.values = make([]string, len(columns))
}

func (s *parquetSource) next() (row record, err error) {
	defer recoverParquet(s.name, &err)
	for s.left == 0 {
		if err := s.open(); err != nil {
			return record{}, err
		}
	}
	s.left--
	s.row.line++
	var bad *badRow
	for i, cursor := range s.cursors {
		value, err := cursor.next()
		if err != nil {
			return record{}, invalidParquet(s.name, fmt.Errorf("row %d, column %q: %w", s.row.line, galley.Clip(s.wanted[i].Name(), 200), err))
		}
		text, ok := parquetScalar(value)
		if !ok {
			bad = &badRow{s.row.line, fmt.Sprintf("wrong type: %q is not a string, an integer or a boolean", galley.Clip(s.wanted[i].Name(), 200))}
		}
		s.row.values[i] = text
	}
	if bad != nil {
		return record{}, bad
	}
	return s.row, nil
}

// open begins the next row group.
func (s *parquetSource) open() error {
	s.release()
	groups := s.file.RowGroups()
	if s.group == len(groups) {
		return io.EOF
	}
	group := groups[s.group]
	s.group++
	chunks := group.ColumnChunks()
	for _, column := range s.wanted {
		if !column.Leaf() || column.Repeated() || column.Index() >= len(chunks) {
			return galley.Errorf(galley.InvalidArgument, s.name, "column %q is a list or a group", galley.Clip(column.Name(), 200)).
				WithRemedy("map columns of strings, integers or booleans with --columns")
		}
		s.cursors = append(s.cursors, &parquetCursor{pages: chunks[column.Index()].Pages()})
	}
	s.left = group.NumRows()
	return nil
}

// release gives the buffers of the current row group back.
func (s *parquetSource) release() {
	for _, cursor := range s.cursors {
		cursor.close()
	}
	s.cursors = s.cursors[:0]
}

// A parquetCursor reads the values of one column chunk one by one.
type parquetCursor struct {
	pages  parquet.Pages
	page   parquet.Page
	values parquet.ValueReader
	buf    [64]parquet.Value
	have   []parquet.Value
}

func (c *parquetCursor) next() (parquet.Value, error) {
	for len(c.have) == 0 {
		if c.values == nil {
			page, err := c.pages.ReadPage()
			if errors.Is(err, io.EOF) {
				return parquet.Value{}, io.ErrUnexpectedEOF
			}
			if err != nil {
				return parquet.Value{}, err
			}
			c.page, c.values = page, page.Values()
		}
		n, err := c.values.ReadValues(c.buf[:])
		c.have = c.buf[:n]
		if n == 0 {
			if err == nil {
				err = io.ErrNoProgress
			}
			if !errors.Is(err, io.EOF) {
				return parquet.Value{}, err
			}
			c.release()
		}
	}
	v := c.have[0]
	c.have = c.have[1:]
	return v, nil
}

func (c *parquetCursor) release() {
	if c.page != nil {
		parquet.Release(c.page)
	}
	c.page, c.values = nil, nil
}

func (c *parquetCursor) close() {
	c.release()
	_ = c.pages.Close() // only returns buffers; what was read is whole
}

// parquetScalar returns the text of a string, an integer or a boolean; of
// null, the empty string. The text is a copy: pages are reused.
func parquetScalar(v parquet.Value) (string, bool) {
	if v.IsNull() {
		return "", true
	}
	switch v.Kind() {
	case parquet.ByteArray, parquet.FixedLenByteArray:
		return string(v.ByteArray()), true
	case parquet.Int32:
		return strconv.FormatInt(int64(v.Int32()), 10), true
	case parquet.Int64:
		return strconv.FormatInt(v.Int64(), 10), true
	case parquet.Boolean:
		return strconv.FormatBool(v.Boolean()), true
	default:
		return "", false
	}
}

func invalidParquet(name string, err error) error {
	return galley.Errorf(galley.InvalidArgument, name, "not a readable Parquet file: %w", err).
		WithRemedy("write the file anew")
}

// recoverParquet turns a panic of the Parquet library into an error. The
// library trusts some counts of a file further than a file from outside may
// be trusted.
func recoverParquet(name string, err *error) {
	if p := recover(); p != nil {
		*err = invalidParquet(name, fmt.Errorf("%v", p))
	}
}

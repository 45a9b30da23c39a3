package parquet

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Rows are the rows of a file, with the values of some columns.
type Rows struct {
	file    *File
	wanted  map[uint64]int // stored columns, to their cursors
	cursors []*cursor
	order   []int // of the values of a row, their cursors
	left    int64 // rows of the row group
	number  int64
	held    budget
	unpack  unpacker
}

// Rows begins with the first row. Columns are numbers of top-level ones, which
// must be flat; one may be wanted twice. A file gives its rows once.
func (f *File) Rows(columns ...int) (*Rows, error) {
	r := &Rows{file: f, wanted: map[uint64]int{}, held: MaxHeld}
	for at, number := range columns {
		c := f.columns[number]
		if !c.Flat {
			return nil, fmt.Errorf("the column %.200q is a list or a group", c.Name)
		}
		if c.Kind == Fixed && (c.width <= 0 || c.width > MaxPage) {
			return nil, fmt.Errorf("the values of column %.200q have %d bytes", c.Name, c.width)
		}
		if c.Kind > Fixed {
			return nil, fmt.Errorf("the values of column %.200q are of type %d, which is none", c.Name, c.Kind)
		}
		i, ok := r.wanted[uint64(c.leaf)]
		if !ok {
			i = len(r.cursors)
			r.wanted[uint64(c.leaf)] = i
			r.cursors = append(r.cursors, &cursor{
				column: c, at: at, budget: &r.held, unpack: &r.unpack,
				pages: thriftReader{bufio.NewReaderSize(strings.NewReader(""), bufferSize)},
			})
		}
		r.order = append(r.order, i)
	}
	return r, nil
}

// Next reads the next row's values; io.EOF is the error after the last.
func (r *Rows) Next(values []Value) (err error) {
	for r.left == 0 {
		if err := r.begin(); err != nil {
			return err
		}
	}
	r.left--
	r.number++
	for at, i := range r.order {
		c := r.cursors[i]
		if c.at != at { // a column that is wanted twice
			values[at] = values[c.at]
			continue
		}
		if err := c.next(&values[at]); err != nil {
			return fmt.Errorf("row %d, column %.200q: %w", r.number, c.column.Name, whole(err))
		}
	}
	return nil
}

// begin goes on with the next row group.
func (r *Rows) begin() error {
	g, err := r.file.nextGroup(r.wanted)
	if errors.Is(err, io.EOF) {
		return err
	}
	if err != nil {
		return fmt.Errorf("the footer: %w", err)
	}
	for i, c := range r.cursors {
		pages := io.NewSectionReader(r.file.r, g.chunks[i].begin, r.file.end-g.chunks[i].begin)
		if err := c.begin(pages, g.chunks[i]); err != nil {
			return fmt.Errorf("column %.200q: %w", c.column.Name, err)
		}
	}
	r.left = g.rows
	return nil
}

// Close gives back what reading held.
func (r *Rows) Close() {
	r.unpack.close()
	r.cursors, r.left, r.file.groups = nil, 0, 0
}

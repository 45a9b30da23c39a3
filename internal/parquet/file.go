package parquet

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Bounds of what is read of a file.
const (
	MaxPage = 128 << 20 // bytes of a page, as it lies in the file and unpacked
	MaxHeld = 256 << 20 // bytes of all pages that are held at once

	maxFooter  = 64 << 20
	maxName    = 64 << 10
	maxNames   = 4 << 20 // bytes of all names
	maxColumns = 1 << 16
	bufferSize = 16 << 10
)

// ErrTooLarge is the cause of the error of a page, or of several side by side,
// that take more memory than is given to them.
var ErrTooLarge = errors.New("too large to be read")

// A Kind is how the values of a column are stored.
type Kind int

// The physical types of the format.
const (
	Boolean Kind = iota
	Int32
	Int64
	Int96
	Float
	Double
	Bytes // of any length
	Fixed // of one length
)

// A Column is a top-level column.
type Column struct {
	Name string
	Flat bool // neither a list nor a group: its values can be read
	Kind Kind // of a flat one

	optional bool
	width    int // of Fixed
	leaf     int // its number among the columns that are stored
}

// A File is one whose metadata was read as far as its columns.
type File struct {
	r       io.ReaderAt
	end     int64 // of the pages
	columns []Column
	footer  thriftReader // before its first row group
	groups  uint64
}

// Open reads a file's columns.
func Open(r io.ReaderAt, size int64) (*File, error) {
	if size < 12 {
		return nil, errors.New("the file is too short")
	}
	var head [4]byte
	var tail [8]byte
	if err := readAt(r, head[:], 0); err != nil {
		return nil, err
	}
	if err := readAt(r, tail[:], size-8); err != nil {
		return nil, err
	}
	if string(tail[4:]) == "PARE" {
		return nil, errors.New("the file is encrypted")
	}
	if string(head[:]) != "PAR1" || string(tail[4:]) != "PAR1" {
		return nil, errors.New("the file does not begin and end as one")
	}
	length := int64(binary.LittleEndian.Uint32(tail[:]))
	if length > size-12 || length > maxFooter {
		return nil, fmt.Errorf("the footer claims %d bytes", length)
	}
	f := &File{r: r, end: size - 8 - length}
	f.footer = thriftReader{bufio.NewReaderSize(io.NewSectionReader(r, f.end, length), bufferSize)}
	if err := f.read(); err != nil {
		return nil, fmt.Errorf("the footer: %w", err)
	}
	return f, nil
}

func readAt(r io.ReaderAt, b []byte, at int64) error {
	if n, err := r.ReadAt(b, at); n < len(b) {
		return whole(err)
	}
	return nil
}

// Columns are the top-level columns, in the order of the file.
func (f *File) Columns() []Column { return f.columns }

// read reads the metadata up to the first row group.
func (f *File) read() error {
	err := f.footer.fields(func(id int64, kind byte) error {
		switch id {
		case 2:
			return f.readSchema(kind)
		case 4:
			size, of, err := f.footer.list(kind)
			if err != nil {
				return err
			}
			if of != thriftStruct && size > 0 {
				return errors.New("its row groups are none")
			}
			f.groups = size
			return errDone
		default:
			return f.footer.skip(kind)
		}
	})
	if err != nil && !errors.Is(err, errDone) {
		return err
	}
	if f.columns == nil {
		return errors.New("it names no columns")
	}
	return nil
}

// An element is one of the schema, which is a tree in preorder.
type element struct {
	name       string
	kind       Kind
	width      int
	repetition int // 0 required, 1 optional, 2 repeated
	children   int
}

func (f *File) readSchema(kind byte) error {
	var names, leaves, open int // open: elements of the top-level column that are still to come
	return f.footer.structs(kind, func(i uint64) error {
		e, err := f.readElement()
		if err != nil || i == 0 { // the root
			return err
		}
		if names += len(e.name); names > maxNames {
			return fmt.Errorf("its names have more than %d bytes", maxNames)
		}
		if open == 0 {
			if len(f.columns) == maxColumns {
				return fmt.Errorf("it has more than %d columns", maxColumns)
			}
			f.columns = append(f.columns, Column{
				Name: e.name, Kind: e.kind, Flat: e.children == 0 && e.repetition != 2, optional: e.repetition == 1, width: e.width, leaf: leaves,
			})
			open = 1
		}
		open += e.children - 1
		if e.children == 0 {
			leaves++
		}
		return nil
	})
}

func (f *File) readElement() (e element, err error) {
	t := f.footer
	err = t.fields(func(id int64, kind byte) error {
		var err error
		var n int
		switch id {
		case 1:
			n, err = t.count(kind, "type")
			e.kind = Kind(n)
		case 2:
			e.width, err = t.count(kind, "length of a type")
		case 3:
			e.repetition, err = t.count(kind, "repetition")
		case 4:
			e.name, err = t.text(kind, maxName)
		case 5:
			e.children, err = t.count(kind, "number of children")
		default:
			err = t.skip(kind)
		}
		return err
	})
	return e, err
}

// A group is a row group: rows, and where the wanted columns' pages are.
type group struct {
	rows   int64
	chunks []chunk
}

type chunk struct {
	kind  Kind
	codec int
	begin int64 // of the first page
}

// nextGroup reads the next row group's metadata; io.EOF after the last. The
// wanted columns are numbers among those that are stored, from low to high.
func (f *File) nextGroup(wanted map[uint64]int) (g group, err error) {
	if f.groups == 0 {
		return g, io.EOF
	}
	f.groups--
	g.chunks = make([]chunk, len(wanted))
	found := 0
	t := f.footer
	err = t.fields(func(id int64, kind byte) error {
		var err error
		switch id {
		case 1:
			return t.structs(kind, func(i uint64) error {
				at, ok := wanted[i]
				if !ok {
					return t.skip(thriftStruct)
				}
				found++
				g.chunks[at], err = f.readChunk()
				return err
			})
		case 3:
			if g.rows, err = t.int(kind); err == nil && g.rows < 0 {
				err = fmt.Errorf("it has %d rows", g.rows)
			}
		default:
			err = t.skip(kind)
		}
		return err
	})
	if err == nil && found != len(wanted) {
		err = errors.New("it lacks a column")
	}
	return g, err
}

func (f *File) readChunk() (c chunk, err error) {
	t := f.footer
	described := false
	err = t.fields(func(id int64, kind byte) error {
		switch id {
		case 1:
			path, err := t.text(kind, maxName)
			if err == nil && path != "" {
				err = errors.New("a column is in another file")
			}
			return err
		case 3:
			described = true
			if kind != thriftStruct {
				return errors.New("a column is not described")
			}
			c, err = f.readChunkMetadata()
			return err
		default:
			return t.skip(kind)
		}
	})
	if err == nil && !described {
		err = errors.New("a column is not described, or is encrypted")
	}
	if err == nil && (c.begin < 4 || c.begin >= f.end) {
		err = fmt.Errorf("a column begins at %d", c.begin)
	}
	return c, err
}

func (f *File) readChunkMetadata() (c chunk, err error) {
	t := f.footer
	var pages, dictionary int64
	err = t.fields(func(id int64, kind byte) error {
		var err error
		var n int
		switch id {
		case 1:
			n, err = t.count(kind, "type")
			c.kind = Kind(n)
		case 4:
			c.codec, err = t.count(kind, "codec")
		case 9:
			pages, err = t.int(kind)
		case 11:
			dictionary, err = t.int(kind)
		default:
			err = t.skip(kind)
		}
		return err
	})
	c.begin = pages
	if dictionary > 0 {
		c.begin = min(pages, dictionary)
	}
	return c, err
}

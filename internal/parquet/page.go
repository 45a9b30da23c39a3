package parquet

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Types of pages.
const (
	dataPage       = 0
	indexPage      = 1
	dictionaryPage = 2
	dataPage2      = 3
)

// A pageHeader is what stands before a page.
type pageHeader struct {
	kind             int
	packed, unpacked int // bytes
	checked          bool
	sum              uint32
	values           int
	encoding         int
	levels           int // bytes of the second version's levels
	repetitions      int // of these, those of repetition
	compressed       bool
}

func readPageHeader(t thriftReader) (h pageHeader, err error) {
	h.kind, h.encoding, h.compressed = -1, -1, true
	err = t.fields(func(id int64, kind byte) error {
		var err error
		switch id {
		case 1:
			h.kind, err = t.count(kind, "type of a page")
		case 2:
			h.unpacked, err = t.count(kind, "size of a page")
		case 3:
			h.packed, err = t.count(kind, "size of a page")
		case 4:
			var n int64
			n, err = t.int(kind)
			h.checked, h.sum = true, uint32(n)
		case 5, 7, 8:
			if kind != thriftStruct {
				return errors.New("the header of a page is none")
			}
			err = t.fields(func(field int64, kind byte) error { return h.readKind(t, id, field, kind) })
		default:
			err = t.skip(kind)
		}
		return err
	})
	if err == nil && (h.kind < 0 || h.levels > h.packed || h.levels > h.unpacked) {
		err = errors.New("the header of a page contradicts itself")
	}
	return h, err
}

// readKind reads a field of what the header has for one kind of pages.
func (h *pageHeader) readKind(t thriftReader, page, field int64, kind byte) (err error) {
	second := page == 8
	switch {
	case field == 1:
		h.values, err = t.count(kind, "number of values")
	case !second && field == 2, second && field == 4:
		h.encoding, err = t.count(kind, "encoding")
	case second && (field == 5 || field == 6):
		var n int
		n, err = t.count(kind, "size of levels")
		if h.levels += n; field == 6 {
			h.repetitions = n
		}
	case second && field == 7:
		h.compressed = kind == thriftTrue
	default:
		err = t.skip(kind)
	}
	return err
}

// A budget is how many bytes of pages may be held yet.
type budget int64

func (b *budget) take(n int64) error {
	if n > int64(*b) {
		return fmt.Errorf("the pages of a row are %w: they have more than %d bytes together", ErrTooLarge, MaxHeld)
	}
	*b -= budget(n)
	return nil
}

func (b *budget) give(n int64) { *b += budget(n) }

// A cursor reads the values of one column, row group after row group.
type cursor struct {
	column Column
	at     int // of its value in a row
	budget *budget
	unpack *unpacker

	pages  thriftReader
	codec  int
	values int     // of the page that are left
	levels *hybrid // nil if none is null
	decode decoder
	words  *dictionary
	page   []byte // as it lies in the file, to be used again
	data   []byte // unpacked, to be used again
}

func (c *cursor) next(v *Value) error {
	for c.values == 0 {
		if err := c.read(); err != nil {
			return err
		}
	}
	c.values--
	if c.levels != nil {
		level, err := c.levels.next()
		if err != nil {
			return err
		}
		if level == 0 {
			*v = Value{Null: true, Kind: c.column.Kind}
			return nil
		}
	}
	return c.decode.next(v)
}

// begin goes on with the pages of another row group.
func (c *cursor) begin(pages io.Reader, chunk chunk) error {
	if chunk.kind != c.column.Kind {
		return fmt.Errorf("it is of type %d, and said to be of type %d", chunk.kind, c.column.Kind)
	}
	c.pages.r.Reset(pages)
	c.codec, c.values, c.decode, c.levels = chunk.codec, 0, nil, nil
	c.forget()
	return nil
}

func (c *cursor) forget() {
	if c.words != nil {
		c.budget.give(c.words.held)
	}
	c.words = nil
}

// read reads the next page.
func (c *cursor) read() error {
	h, err := readPageHeader(c.pages)
	if err != nil {
		return err
	}
	if h.packed > MaxPage || h.unpacked > MaxPage {
		return fmt.Errorf("a page is %w: it has %d bytes, %d in the file, and may have %d", ErrTooLarge, h.unpacked, h.packed, MaxPage)
	}
	if h.kind == indexPage {
		return c.pages.discard(uint64(h.packed))
	}
	data, err := c.body(h)
	if err != nil {
		return err
	}
	switch h.kind {
	case dictionaryPage:
		return c.readDictionary(h, data)
	case dataPage, dataPage2:
		return c.readData(h, data)
	default:
		return fmt.Errorf("a page of type %d", h.kind)
	}
}

// body reads a page and unpacks it. The levels of the second version are not
// packed.
func (c *cursor) body(h pageHeader) ([]byte, error) {
	if err := c.room(&c.page, h.packed); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(c.pages.r, c.page); err != nil {
		return nil, whole(err)
	}
	if h.checked && crc32.ChecksumIEEE(c.page) != h.sum {
		return nil, errors.New("a page was altered: its checksum is another")
	}
	if c.codec == plainCodec || !h.compressed {
		return c.page, nil
	}
	if err := c.room(&c.data, h.unpacked); err != nil {
		return nil, err
	}
	copy(c.data, c.page[:h.levels])
	if h.unpacked == h.levels {
		return c.data, nil // nulls alone
	}
	data, err := c.unpack.unpack(c.codec, c.page[h.levels:], c.data[h.levels:])
	if err != nil {
		return nil, fmt.Errorf("a page cannot be unpacked: %w", err)
	}
	return c.data[:h.levels+len(data)], nil
}

// room makes a buffer as long as it has to be.
func (c *cursor) room(b *[]byte, n int) error {
	if n > cap(*b) {
		c.budget.give(int64(cap(*b)))
		*b = nil
		if err := c.budget.take(int64(n)); err != nil {
			return err
		}
		*b = make([]byte, n)
	}
	*b = (*b)[:n]
	return nil
}

func (c *cursor) readDictionary(h pageHeader, data []byte) error {
	c.forget()
	if err := checkDictionary(c.column, h.encoding, h.values, data); err != nil {
		return err
	}
	held := int64(len(data)) + 4*int64(h.values)
	if err := c.budget.take(held); err != nil {
		return err
	}
	// It stays while the buffers go on to the next page.
	words, err := newDictionary(c.column, h.values, bytes.Clone(data))
	if err != nil {
		c.budget.give(held)
		return err
	}
	words.held, c.words = held, words
	return nil
}

func (c *cursor) readData(h pageHeader, data []byte) error {
	c.levels = nil
	var levels []byte
	var err error
	switch {
	case h.kind == dataPage2:
		levels, data = data[h.repetitions:h.levels], data[h.levels:]
	case c.column.optional:
		if levels, data, err = prefixedBytes(data); err != nil {
			return err
		}
	}
	if c.column.optional && (h.kind == dataPage || len(levels) > 0) {
		if c.levels, err = newHybrid(levels, 1); err != nil {
			return err
		}
	}
	if c.decode, err = newDecoder(c.column, h.encoding, data, h.values, c.words); err != nil {
		return err
	}
	c.values = h.values
	return nil
}

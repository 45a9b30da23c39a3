package parquet

import (
	"encoding/binary"
	"errors"
	"fmt"
)

var errShort = errors.New("a page ends before its values")

// bitsAt is the number of so many bits, at most 64, that begins at a bit, the
// lowest first; false if the data ends before.
func bitsAt(data []byte, at uint64, width uint) (uint64, bool) {
	if at+uint64(width) > uint64(len(data))*8 {
		return 0, false
	}
	first, shift := at>>3, uint(at&7)
	var n uint64
	if first+8 <= uint64(len(data)) {
		n = binary.LittleEndian.Uint64(data[first:]) >> shift
	} else {
		for i, b := range data[first:] {
			n |= uint64(b) << (8 * i)
		}
		n >>= shift
	}
	if shift+width > 64 { // of a ninth byte
		n |= uint64(data[first+8]) << (64 - shift)
	}
	if width < 64 {
		n &= 1<<width - 1
	}
	return n, true
}

// A hybrid reads numbers of a fixed width, written as runs of one number and
// as packed bits.
type hybrid struct {
	data  []byte
	width uint
	run   uint64 // how often value comes again
	value uint32
	bits  uint64 // packed numbers that are left
	at    uint64 // the bit where the next one is
	taken uint64 // bytes of them
}

func newHybrid(data []byte, width int) (*hybrid, error) {
	if width < 0 || width > 32 {
		return nil, fmt.Errorf("numbers are %d bits wide", width)
	}
	return &hybrid{data: data, width: uint(width)}, nil
}

func (h *hybrid) next() (uint32, error) {
	for h.run == 0 && h.bits == 0 {
		if err := h.begin(); err != nil {
			return 0, err
		}
	}
	if h.run > 0 {
		h.run--
		return h.value, nil
	}
	n, ok := bitsAt(h.data[:h.taken], h.at, h.width)
	if !ok {
		return 0, errShort
	}
	h.at += uint64(h.width)
	if h.bits--; h.bits == 0 {
		h.data = h.data[h.taken:]
	}
	return uint32(n), nil
}

// begin reads the head of the next run.
func (h *hybrid) begin() error {
	head, n := binary.Uvarint(h.data)
	if n <= 0 {
		return errShort
	}
	h.data = h.data[n:]
	if head&1 == 0 {
		size := int(h.width+7) / 8
		if len(h.data) < size {
			return errShort
		}
		h.run, h.value = head>>1, 0
		for i, b := range h.data[:size] {
			h.value |= uint32(b) << (8 * i)
		}
		h.data = h.data[size:]
		return nil
	}
	groups := head >> 1 // of eight numbers, a byte each for each bit of the width
	if groups > 1<<32 {
		return errShort
	}
	h.bits, h.at = 8*groups, 0
	h.taken = min(groups*uint64(h.width), uint64(len(h.data))) // some leave out the end of the last
	return nil
}

// A deltas reads whole numbers that are written as differences, in blocks of
// packed bits.
type deltas struct {
	data   []byte
	left   uint64 // values
	last   int64
	first  bool   // it has not been returned
	block  uint64 // values of a block
	mini   uint64 // and of each of its parts
	least  int64  // difference of the block
	widths []byte // of the parts of the block that are left
	part   uint64 // values of the part that are left
	width  uint
	at     uint64 // the bit where the next one is
}

// newDeltas reads the head of at most so many values.
func newDeltas(data []byte, most int) (*deltas, error) {
	d := &deltas{data: data, first: true}
	var parts uint64
	for _, into := range []*uint64{&d.block, &parts, &d.left} {
		n, size := binary.Uvarint(d.data)
		if size <= 0 {
			return nil, errShort
		}
		*into, d.data = n, d.data[size:]
	}
	first, size := binary.Varint(d.data)
	if size <= 0 {
		return nil, errShort
	}
	d.last, d.data = first, d.data[size:]
	if d.block == 0 || d.block > 1<<24 || parts == 0 || d.block%parts != 0 || d.block/parts%8 != 0 || d.left > uint64(most) {
		return nil, fmt.Errorf("%d differences in blocks of %d with %d parts", d.left, d.block, parts)
	}
	d.mini = d.block / parts
	return d, nil
}

func (d *deltas) next() (int64, error) {
	if d.left == 0 {
		return 0, errShort
	}
	d.left--
	if d.first {
		d.first = false
		return d.last, nil
	}
	if d.part == 0 {
		if err := d.begin(); err != nil {
			return 0, err
		}
	}
	n, ok := bitsAt(d.data, d.at, d.width)
	if !ok {
		return 0, errShort
	}
	d.at += uint64(d.width)
	d.last += d.least + int64(n)
	if d.part--; d.part == 0 {
		d.data = d.data[d.mini*uint64(d.width)/8:]
	}
	return d.last, nil
}

// begin reads the head of the next part, and of the next block before its
// first.
func (d *deltas) begin() error {
	if len(d.widths) == 0 {
		least, n := binary.Varint(d.data)
		parts := int(d.block / d.mini)
		if n <= 0 || len(d.data)-n < parts {
			return errShort
		}
		d.least, d.widths, d.data = least, d.data[n:n+parts], d.data[n+parts:]
	}
	d.width, d.widths = uint(d.widths[0]), d.widths[1:]
	if d.width > 64 || d.mini*uint64(d.width)/8 > uint64(len(d.data)) {
		return errShort
	}
	d.part, d.at = d.mini, 0
	return nil
}

// rest passes over the values that are left, and returns what follows them.
func (d *deltas) rest() ([]byte, error) {
	for d.left > 0 {
		if _, err := d.next(); err != nil {
			return nil, err
		}
	}
	if d.part > 0 { // a part is written whole
		d.data = d.data[d.mini*uint64(d.width)/8:]
		d.part = 0
	}
	return d.data, nil
}

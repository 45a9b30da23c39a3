package parquet

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// Types of Thrift's compact protocol, in which a file's metadata is written.
const (
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftInt16  = 4
	thriftInt32  = 5
	thriftInt64  = 6
	thriftDouble = 7
	thriftBinary = 8
	thriftList   = 9
	thriftSet    = 10
	thriftMap    = 11
	thriftStruct = 12
)

// maxNesting bounds how deep metadata that is skipped may be nested.
const maxNesting = 32

// A thriftReader reads metadata as it comes. It allocates nothing but the
// texts that are asked for.
type thriftReader struct{ r *bufio.Reader }

// whole makes the end of the bytes an error: metadata ends itself.
func whole(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (t thriftReader) byte() (byte, error) {
	b, err := t.r.ReadByte()
	return b, whole(err)
}

func (t thriftReader) uvarint() (uint64, error) {
	n, err := binary.ReadUvarint(t.r)
	return n, whole(err)
}

// int reads a whole number of at most 64 bits, as every kind of them is
// written.
func (t thriftReader) int(kind byte) (int64, error) {
	if kind != thriftInt16 && kind != thriftInt32 && kind != thriftInt64 {
		return 0, fmt.Errorf("metadata of type %d stands where a number should", kind)
	}
	n, err := t.uvarint()
	return int64(n>>1) ^ -int64(n&1), err
}

// count reads a number that is not negative and fits into 31 bits.
func (t thriftReader) count(kind byte, what string) (int, error) {
	n, err := t.int(kind)
	if err == nil && (n < 0 || n > math.MaxInt32) {
		err = fmt.Errorf("the %s is %d", what, n)
	}
	return int(n), err
}

// text reads a text of at most so many bytes.
func (t thriftReader) text(kind byte, most int) (string, error) {
	if kind != thriftBinary {
		return "", fmt.Errorf("metadata of type %d stands where a text should", kind)
	}
	n, err := t.uvarint()
	if err != nil {
		return "", err
	}
	if n > uint64(most) {
		return "", fmt.Errorf("a name has %d bytes", n)
	}
	b := make([]byte, n)
	_, err = io.ReadFull(t.r, b)
	return string(b), whole(err)
}

// list reads the head of a list.
func (t thriftReader) list(kind byte) (size uint64, of byte, err error) {
	if kind != thriftList && kind != thriftSet {
		return 0, 0, fmt.Errorf("metadata of type %d stands where a list should", kind)
	}
	b, err := t.byte()
	if err != nil {
		return 0, 0, err
	}
	size, of = uint64(b>>4), b&15
	if size == 15 {
		size, err = t.uvarint()
	}
	return size, of, err
}

// errDone ends the reading of a struct before its end.
var errDone = errors.New("done")

// fields reads a struct: each reads the value of a field, or skips it.
func (t thriftReader) fields(each func(id int64, kind byte) error) error {
	id := int64(0)
	for {
		head, err := t.byte()
		if err != nil || head == 0 {
			return err
		}
		kind := head & 15
		if delta := head >> 4; delta != 0 {
			id += int64(delta)
		} else if id, err = t.int(thriftInt16); err != nil {
			return err
		}
		if err := each(id, kind); err != nil {
			return err
		}
	}
}

// structs reads a list of structs.
func (t thriftReader) structs(kind byte, each func(i uint64) error) error {
	size, of, err := t.list(kind)
	if err != nil {
		return err
	}
	if of != thriftStruct && size > 0 {
		return fmt.Errorf("metadata of type %d stands where a struct should", of)
	}
	for i := range size {
		if err := each(i); err != nil {
			return err
		}
	}
	return nil
}

// skip passes over the value of a field.
func (t thriftReader) skip(kind byte) error { return t.skipNested(kind, maxNesting) }

func (t thriftReader) skipNested(kind byte, depth int) error {
	if depth == 0 {
		return fmt.Errorf("metadata is nested more than %d deep", maxNesting)
	}
	switch kind {
	case thriftTrue, thriftFalse:
		return nil // the type is the value
	case thriftByte:
		return t.discard(1)
	case thriftInt16, thriftInt32, thriftInt64:
		_, err := t.uvarint()
		return err
	case thriftDouble:
		return t.discard(8)
	case thriftBinary:
		n, err := t.uvarint()
		if err != nil {
			return err
		}
		return t.discard(n)
	case thriftList, thriftSet:
		size, of, err := t.list(kind)
		if err != nil {
			return err
		}
		return t.skipItems(size, depth, of)
	case thriftMap:
		size, err := t.uvarint()
		if err != nil || size == 0 {
			return err
		}
		kinds, err := t.byte()
		if err != nil {
			return err
		}
		return t.skipItems(size, depth, kinds>>4, kinds&15)
	case thriftStruct:
		return t.fields(func(_ int64, kind byte) error { return t.skipNested(kind, depth-1) })
	default:
		return fmt.Errorf("metadata has the type %d, which is none", kind)
	}
}

// skipItems passes over items of a list or a map; each takes a byte at least.
func (t thriftReader) skipItems(size uint64, depth int, kinds ...byte) error {
	for range size {
		for _, kind := range kinds {
			if kind == thriftTrue || kind == thriftFalse {
				kind = thriftByte
			}
			if err := t.skipNested(kind, depth-1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t thriftReader) discard(n uint64) error {
	if n > math.MaxInt32 {
		return io.ErrUnexpectedEOF
	}
	_, err := t.r.Discard(int(n))
	return whole(err)
}

package parquet

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A Value is one of a row. Its bytes are valid until the next row is read.
type Value struct {
	Null  bool
	Kind  Kind
	Bytes []byte // of Bytes and Fixed
	Int   int64  // of Int32, Int64 and Boolean; values of other kinds are not read
}

// A decoder reads the values of a page that are not null.
type decoder interface{ next(*Value) error }

// Encodings by their numbers in the format.
const (
	plainEncoding        = 0
	oldDictionary        = 2
	runEncoding          = 3
	deltaEncoding        = 5
	deltaLengthEncoding  = 6
	deltaBytesEncoding   = 7
	dictionaryEncoding   = 8
	splitStreamsEncoding = 9
)

// newDecoder makes a decoder of a page's values, of which there are so many at
// most.
func newDecoder(c Column, encoding int, data []byte, most int, d *dictionary) (decoder, error) {
	switch c.Kind {
	case Int96, Float, Double:
		return unread{c.Kind}, nil
	}
	size := c.size()
	switch {
	case encoding == dictionaryEncoding || encoding == oldDictionary:
		return newIndexes(data, d)
	case encoding == plainEncoding && c.Kind == Boolean:
		return &packedBooleans{data: data}, nil
	case encoding == plainEncoding && c.Kind == Bytes:
		return &plainBytes{data}, nil
	case encoding == plainEncoding:
		return &plainFixed{c.Kind, size, data}, nil
	case encoding == runEncoding && c.Kind == Boolean:
		return newRunBooleans(data)
	case encoding == deltaEncoding && (c.Kind == Int32 || c.Kind == Int64):
		n, err := newDeltas(data, most)
		return &differences{c.Kind, n}, err
	case encoding == deltaLengthEncoding && c.Kind == Bytes:
		return newSized(data, most)
	case encoding == deltaBytesEncoding && (c.Kind == Bytes || c.Kind == Fixed):
		return newPrefixed(c.Kind, data, most)
	case encoding == splitStreamsEncoding && size > 0:
		return &splitStreams{kind: c.Kind, width: size, streams: data, value: make([]byte, size)}, nil
	default:
		return nil, fmt.Errorf("the encoding %d is not one of its type", encoding)
	}
}

// size is how many bytes a value has; 0 if that is not fixed.
func (c Column) size() int {
	switch c.Kind {
	case Int32:
		return 4
	case Int64:
		return 8
	case Fixed:
		return c.width
	default:
		return 0
	}
}

// unread values are of kinds that nobody reads.
type unread struct{ kind Kind }

func (u unread) next(v *Value) error {
	*v = Value{Kind: u.kind}
	return nil
}

type plainBytes struct{ data []byte }

func (p *plainBytes) next(v *Value) error {
	if len(p.data) < 4 {
		return errShort
	}
	n := uint64(binary.LittleEndian.Uint32(p.data))
	if n > uint64(len(p.data)-4) {
		return errShort
	}
	*v, p.data = Value{Kind: Bytes, Bytes: p.data[4 : 4+n]}, p.data[4+n:]
	return nil
}

type plainFixed struct {
	kind Kind
	size int
	data []byte
}

func (p *plainFixed) next(v *Value) error {
	if len(p.data) < p.size {
		return errShort
	}
	*v = fixedValue(p.kind, p.data[:p.size])
	p.data = p.data[p.size:]
	return nil
}

// fixedValue is a value of a fixed size, as it is stored.
func fixedValue(kind Kind, b []byte) Value {
	switch kind {
	case Int32:
		return Value{Kind: kind, Int: int64(int32(binary.LittleEndian.Uint32(b)))}
	case Int64:
		return Value{Kind: kind, Int: int64(binary.LittleEndian.Uint64(b))}
	default:
		return Value{Kind: kind, Bytes: b}
	}
}

type packedBooleans struct {
	data []byte
	at   uint64
}

func (p *packedBooleans) next(v *Value) error {
	n, ok := bitsAt(p.data, p.at, 1)
	if !ok {
		return errShort
	}
	p.at++
	*v = Value{Kind: Boolean, Int: int64(n)}
	return nil
}

type runBooleans struct{ runs *hybrid }

func newRunBooleans(data []byte) (decoder, error) {
	data, _, err := prefixedBytes(data)
	if err != nil {
		return nil, err
	}
	runs, err := newHybrid(data, 1)
	return runBooleans{runs}, err
}

func (r runBooleans) next(v *Value) error {
	n, err := r.runs.next()
	*v = Value{Kind: Boolean, Int: int64(n)}
	return err
}

// prefixedBytes are bytes with their length before them, and what follows.
func prefixedBytes(data []byte) (b, rest []byte, err error) {
	if len(data) < 4 {
		return nil, nil, errShort
	}
	n := uint64(binary.LittleEndian.Uint32(data))
	if n > uint64(len(data)-4) {
		return nil, nil, errShort
	}
	return data[4 : 4+n], data[4+n:], nil
}

type differences struct {
	kind    Kind
	numbers *deltas
}

func (d *differences) next(v *Value) error {
	n, err := d.numbers.next()
	if d.kind == Int32 {
		n = int64(int32(n))
	}
	*v = Value{Kind: d.kind, Int: n}
	return err
}

// sized are byte arrays after all of their lengths.
type sized struct {
	lengths *deltas
	data    []byte
}

func newSized(data []byte, most int) (*sized, error) {
	lengths, err := newDeltas(data, most)
	if err != nil {
		return nil, err
	}
	end := *lengths
	data, err = end.rest()
	return &sized{lengths, data}, err
}

func (s *sized) bytes() ([]byte, error) {
	n, err := s.lengths.next()
	if err != nil {
		return nil, err
	}
	if n < 0 || n > int64(len(s.data)) {
		return nil, errShort
	}
	b := s.data[:n]
	s.data = s.data[n:]
	return b, nil
}

func (s *sized) next(v *Value) (err error) {
	*v = Value{Kind: Bytes}
	v.Bytes, err = s.bytes()
	return err
}

// prefixed are byte arrays of which each begins as the one before does. None
// is longer than all that are written of them, so the page bounds it.
type prefixed struct {
	kind     Kind
	prefixes *deltas
	suffixes *sized
	last     []byte
}

func newPrefixed(kind Kind, data []byte, most int) (*prefixed, error) {
	prefixes, err := newDeltas(data, most)
	if err != nil {
		return nil, err
	}
	end := *prefixes
	if data, err = end.rest(); err != nil {
		return nil, err
	}
	suffixes, err := newSized(data, most)
	return &prefixed{kind: kind, prefixes: prefixes, suffixes: suffixes}, err
}

func (p *prefixed) next(v *Value) error {
	n, err := p.prefixes.next()
	if err != nil {
		return err
	}
	suffix, err := p.suffixes.bytes()
	if err != nil {
		return err
	}
	if n < 0 || n > int64(len(p.last)) {
		return errors.New("a value begins as one that is shorter")
	}
	p.last = append(p.last[:n], suffix...)
	*v = Value{Kind: p.kind, Bytes: p.last}
	return nil
}

// splitStreams have the first bytes of all values, then all second ones.
type splitStreams struct {
	kind    Kind
	width   int
	streams []byte
	at      int
	value   []byte
}

func (s *splitStreams) next(v *Value) error {
	count := len(s.streams) / s.width
	if s.at >= count {
		return errShort
	}
	for i := range s.value {
		s.value[i] = s.streams[i*count+s.at]
	}
	s.at++
	*v = fixedValue(s.kind, s.value)
	return nil
}

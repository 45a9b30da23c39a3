package federation

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"math"

	"galley"
)

// Weights and updates are written alike: the magic number, the length of the
// layout as uint32, the layout, the numbers of each tensor in its order as
// float32, and the SHA-256 of all before it; all little-endian. Nothing else
// is in the format, and so nothing else can cross the wire in it.
const (
	magic = "GLYWGTS1"
	chunk = 8 << 10 // numbers that are held at a time
)

// EncodedSize returns how many bytes weights of the layout have.
func (l Layout) EncodedSize() int64 {
	return int64(len(magic)+4+len(l.encode())+sha256.Size) + 4*l.Elements()
}

// A Writer writes weights.
type Writer struct {
	out     *bufio.Writer
	sum     hash.Hash // of all before the end, then of all
	left    int64
	scratch []byte
}

// NewWriter begins to write weights of a layout.
func NewWriter(w io.Writer, l Layout) (*Writer, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	sum := sha256.New()
	out := &Writer{out: bufio.NewWriterSize(io.MultiWriter(w, sum), 4*chunk), sum: sum, left: l.Elements(), scratch: make([]byte, 4*chunk)}
	layout := l.encode()
	out.out.WriteString(magic)
	out.out.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(layout))))
	_, err := out.out.Write(layout)
	return out, err
}

// Write adds numbers, which may be of several tensors or a part of one.
func (w *Writer) Write(values []float32) error {
	if w.left -= int64(len(values)); w.left < 0 {
		return errors.New("more numbers than the layout has")
	}
	for len(values) > 0 {
		n := min(len(values), chunk)
		for i, v := range values[:n] {
			binary.LittleEndian.PutUint32(w.scratch[4*i:], math.Float32bits(v))
		}
		if _, err := w.out.Write(w.scratch[:4*n]); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

// Close ends the weights and returns the digest of their bytes.
func (w *Writer) Close() (galley.Digest, error) {
	if w.left != 0 {
		return "", errors.New("fewer numbers than the layout has")
	}
	if err := w.out.Flush(); err != nil {
		return "", err
	}
	if _, err := w.out.Write(w.sum.Sum(nil)); err != nil {
		return "", err
	}
	err := w.out.Flush()
	return galley.SumDigest(w.sum), err
}

// A Reader reads weights, no more than a chunk at a time. Its errors about the
// bytes are faults; others are of the reader below.
type Reader struct {
	in      io.Reader
	sum     hash.Hash // of all before the end, then of all
	layout  Layout
	left    int64
	scratch []byte
}

// NewReader begins to read weights of the wanted layout; nil wants any within
// the bounds.
func NewReader(r io.Reader, want Layout) (*Reader, error) {
	in := &Reader{in: r, sum: sha256.New(), scratch: make([]byte, 4*chunk)}
	start := in.scratch[:len(magic)+4]
	if err := in.read(start); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(start, []byte(magic)) {
		return nil, faultf(Damaged, "is not in the format of weights")
	}
	n := binary.LittleEndian.Uint32(start[len(magic):])
	if n > maxHeader {
		return nil, faultf(TooLarge, "says a layout of %d bytes; at most %d are possible", n, maxHeader)
	}
	expected := want.encode()
	if want != nil && int(n) > 2*len(expected)+1<<16 {
		return nil, faultf(WrongShape, "has a layout of %d bytes where the model's has %d", n, len(expected))
	}
	// As much is allocated as has come, not as was said.
	encoded, err := io.ReadAll(io.LimitReader(in.in, int64(n)))
	if err != nil {
		return nil, err
	}
	if len(encoded) < int(n) {
		return nil, faultf(Damaged, "is cut off")
	}
	in.sum.Write(encoded)
	if want != nil && bytes.Equal(encoded, expected) {
		in.layout = want
	} else {
		if in.layout, err = decodeLayout(encoded); err != nil {
			return nil, faultf(Damaged, "has a damaged layout: %s", galley.AsError(err).Message)
		}
		if want != nil {
			return nil, faultf(WrongShape, "%s", want.differs(in.layout))
		}
	}
	in.left = in.layout.Elements()
	return in, nil
}

// Layout returns what the weights say of themselves.
func (r *Reader) Layout() Layout { return r.layout }

// Read fills values with the next numbers.
func (r *Reader) Read(values []float32) error {
	if r.left -= int64(len(values)); r.left < 0 {
		return errors.New("fewer numbers in the layout than are read")
	}
	for len(values) > 0 {
		n := min(len(values), chunk)
		b := r.scratch[:4*n]
		if err := r.read(b); err != nil {
			return err
		}
		for i := range values[:n] {
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
		values = values[n:]
	}
	return nil
}

// Close checks, after all numbers, the checksum and that nothing follows, and
// returns the digest of all bytes.
func (r *Reader) Close() (galley.Digest, error) {
	if r.left != 0 {
		return "", errors.New("there are numbers left to read")
	}
	want := r.sum.Sum(nil)
	got := r.scratch[:sha256.Size+1]
	switch n, err := io.ReadFull(r.in, got); {
	case err == nil:
		return "", faultf(TooLarge, "goes on after its end")
	case !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF):
		return "", err
	case n < sha256.Size:
		return "", faultf(Damaged, "is cut off")
	}
	if !bytes.Equal(want, got[:sha256.Size]) {
		return "", faultf(Damaged, "has a wrong checksum")
	}
	r.sum.Write(want)
	return galley.SumDigest(r.sum), nil
}

func (r *Reader) read(b []byte) error {
	_, err := io.ReadFull(r.in, b)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return faultf(Damaged, "is cut off")
	}
	r.sum.Write(b)
	return err
}

package federation

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"galley"
	"galley/onnx"
)

// Bounds of a layout, checked before anything of its size is allocated.
const (
	maxTensors  = 1 << 16
	maxName     = 512
	maxRank     = 8
	maxElements = 1 << 34
	maxHeader   = 8 << 20
)

// A Shape is the name and the dimensions of a tensor of float32 numbers.
type Shape struct {
	Name string  `json:"name"`
	Dims []int64 `json:"dims"`
}

// size returns the number of elements; false if that is out of bounds.
func (s Shape) size() (int64, bool) {
	n := int64(1)
	for _, d := range s.Dims {
		if d < 0 || d > maxElements || (d > 0 && n > maxElements/d) {
			return 0, false
		}
		n *= d
	}
	return n, true
}

func (s Shape) String() string { return fmt.Sprintf("%q %v", galley.Clip(s.Name, 80), s.Dims) }

// A Layout lists the tensors of a model's weights in the order of their names.
// All updates of a federation have the same.
type Layout []Shape

// LayoutOf returns the layout of weights, which must be float tensors.
func LayoutOf(weights []*onnx.Tensor) (Layout, error) {
	l := make(Layout, len(weights))
	for i, t := range weights {
		if t.Type != onnx.Float {
			return nil, galley.Errorf(galley.InvalidArgument, t.Name, "is of type %s; weights that are federated are float", t.Type)
		}
		l[i] = Shape{t.Name, slices.Clone(t.Dims)}
	}
	slices.SortFunc(l, func(a, b Shape) int { return strings.Compare(a.Name, b.Name) })
	return l, l.Validate()
}

// Validate checks bounds and order.
func (l Layout) Validate() error {
	wrong := func(format string, args ...any) error {
		return galley.Errorf(galley.InvalidArgument, "layout", format, args...)
	}
	if len(l) == 0 || len(l) > maxTensors {
		return wrong("has %d tensors; 1 to %d are possible", len(l), maxTensors)
	}
	total, header := int64(0), 4
	for i, s := range l {
		n, ok := s.size()
		if total += n; !ok || total > maxElements {
			return wrong("has more than %d numbers at %s", int64(maxElements), s)
		}
		if s.Name == "" || len(s.Name) > maxName || len(s.Dims) > maxRank {
			return wrong("has a tensor with a name of %d bytes and %d dimensions; at most %d and %d are possible", len(s.Name), len(s.Dims), maxName, maxRank)
		}
		if i > 0 && l[i-1].Name >= s.Name {
			return wrong("has %s after %s; names are in order, each once", s, l[i-1])
		}
		header += 3 + len(s.Name) + 8*len(s.Dims)
	}
	if header > maxHeader {
		return wrong("has names of more than %d bytes", maxHeader)
	}
	return nil
}

// Elements returns the number of all numbers of a valid layout.
func (l Layout) Elements() int64 {
	total := int64(0)
	for _, s := range l {
		n, _ := s.size()
		total += n
	}
	return total
}

// Digest names the layout.
func (l Layout) Digest() galley.Digest { return galley.DigestBytes(l.encode()) }

// encode writes the layout as weights begin with it: the number of tensors as
// uint32, and for each the length of its name as uint16, the name, the number
// of dimensions as a byte, and the dimensions as int64; all little-endian.
func (l Layout) encode() []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(l)))
	for _, s := range l {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(s.Name)))
		b = append(b, s.Name...)
		b = append(b, byte(len(s.Dims)))
		for _, d := range s.Dims {
			b = binary.LittleEndian.AppendUint64(b, uint64(d))
		}
	}
	return b
}

// decodeLayout reads what encode wrote. What it allocates is bounded by the
// length of b.
func decodeLayout(b []byte) (Layout, error) {
	cut := galley.Errorf(galley.InvalidArgument, "layout", "is cut off")
	if len(b) < 4 {
		return nil, cut
	}
	count := int64(binary.LittleEndian.Uint32(b))
	b = b[4:]
	if count > int64(len(b))/4 { // the least that a tensor needs: a name of a byte
		return nil, galley.Errorf(galley.InvalidArgument, "layout", "says %d tensors in %d bytes", count, len(b))
	}
	l := make(Layout, 0, count)
	for range count {
		if len(b) < 2 {
			return nil, cut
		}
		n := int(binary.LittleEndian.Uint16(b))
		if b = b[2:]; len(b) < n+1 {
			return nil, cut
		}
		s := Shape{Name: string(b[:n])}
		rank := int(b[n])
		if b = b[n+1:]; len(b) < 8*rank {
			return nil, cut
		}
		s.Dims = make([]int64, rank)
		for i := range s.Dims {
			s.Dims[i] = int64(binary.LittleEndian.Uint64(b[8*i:]))
		}
		b = b[8*rank:]
		l = append(l, s)
	}
	if len(b) > 0 {
		return nil, galley.Errorf(galley.InvalidArgument, "layout", "has %d bytes too many", len(b))
	}
	return l, l.Validate()
}

// differs says the first thing in which got is not the layout l.
func (l Layout) differs(got Layout) string {
	for i, s := range l {
		switch {
		case i == len(got) || s.Name < got[i].Name:
			return fmt.Sprintf("lacks the tensor %s", s)
		case s.Name > got[i].Name:
			return fmt.Sprintf("has the tensor %s, which the model has not", got[i])
		case !slices.Equal(s.Dims, got[i].Dims):
			return fmt.Sprintf("has %s where the model has %v", got[i], s.Dims)
		}
	}
	return fmt.Sprintf("has the tensor %s, which the model has not", got[len(l)])
}

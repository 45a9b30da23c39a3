package onnx

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// unknownDim is a dimension of which nothing is known.
var unknownDim = Dim{Size: -1}

// unknownShape is a shape of known rank and unknown sizes. A rank that no
// tensor has stays unknown.
func unknownShape(rank int64) Shape {
	if rank < 0 || rank > maxRank {
		return nil
	}
	s := make(Shape, rank)
	for i := range s {
		s[i] = unknownDim
	}
	return s
}

// joinShapes puts shapes one after the other; the result is never nil.
func joinShapes(parts ...Shape) Shape {
	out := Shape{}
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// known reports whether a dimension has a fixed size.
func (d Dim) known() bool { return d.Size >= 0 }

// plus adds fixed sizes; zero keeps a symbol.
func (d Dim) plus(e Dim) Dim {
	switch {
	case d.known() && e.known() && d.Size+e.Size >= 0:
		return Dim{Size: d.Size + e.Size}
	case d == Dim{}:
		return e
	case e == Dim{}:
		return d
	}
	return unknownDim
}

// times multiplies fixed sizes; one keeps a symbol.
func (d Dim) times(e Dim) Dim { return mulElems(d.elem(), e.elem()).dim() }

// product multiplies dimensions.
func product(dims []Dim) Dim {
	p := Dim{Size: 1}
	for _, d := range dims {
		p = p.times(d)
	}
	return p
}

// mergeDims joins two descriptions of one size: the more precise wins.
func mergeDims(a, b Dim) (Dim, bool) {
	switch {
	case a.known() && b.known():
		return a, a.Size == b.Size
	case a.known():
		return a, true
	case b.known():
		return b, true
	case a.Symbol != "":
		return a, true
	}
	return b, true
}

// mergeShapes joins two descriptions of one shape.
func mergeShapes(a, b Shape) (Shape, bool) {
	if a == nil {
		return b, true
	}
	if b == nil {
		return a, true
	}
	if len(a) != len(b) {
		return nil, false
	}
	out := slices.Clone(a)
	for i := range out {
		d, ok := mergeDims(a[i], b[i])
		if !ok {
			return nil, false
		}
		out[i] = d
	}
	return out, true
}

// mergeValues joins what was inferred of a value with what is declared.
func mergeValues(got, want Value) (Value, error) {
	if got.Type == Undefined {
		got.Type = want.Type
	} else if want.Type != Undefined && want.Type != got.Type {
		return got, fmt.Errorf("output %s has type %v, but is declared %v", quote(got.Name), got.Type, want.Type)
	}
	shape, ok := mergeShapes(got.Shape, want.Shape)
	if !ok {
		return got, fmt.Errorf("output %s has shape %v, but is declared %v", quote(got.Name), got.Shape, want.Shape)
	}
	got.Shape = shape
	got.Doc, got.Metadata, got.Other = want.Doc, want.Metadata, want.Other
	return got, nil
}

// broadcast joins shapes as elementwise operators do. The result is nil if a
// rank is unknown.
func broadcast(shapes ...Shape) (Shape, error) {
	rank := 0
	for _, s := range shapes {
		if s == nil {
			return nil, nil
		}
		rank = max(rank, len(s))
	}
	out := make(Shape, rank)
	for i := range out {
		out[i] = Dim{Size: 1}
		for _, s := range shapes {
			j := i - (rank - len(s))
			if j < 0 {
				continue
			}
			d, ok := broadcastDims(out[i], s[j])
			if !ok {
				return nil, fmt.Errorf("shapes %s do not broadcast", listShapes(shapes))
			}
			out[i] = d
		}
	}
	return out, nil
}

// broadcastDims joins two sizes: one of them is 1 or both are the same. A
// fixed size other than 1 decides against a symbol; two symbols that differ
// leave the size open, as either may be 1.
func broadcastDims(a, b Dim) (Dim, bool) {
	switch {
	case a == b:
		return a, true
	case a.Size == 1:
		return b, true
	case b.Size == 1:
		return a, true
	case a.known() && b.known():
		return a, false
	case a.known():
		return a, true
	case b.known():
		return b, true
	case isAtMost(a, b):
		return b, true
	case isAtMost(b, a):
		return a, true
	}
	return unknownDim, true
}

// atMost is the size min(n, symbol): the first symbol elements of n, as
// exporters cut positions to the length of a text. It is a symbol of its own,
// except that of a cut one, which would grow.
func atMost(n int64, symbol string) Dim {
	if strings.HasPrefix(symbol, "min(") {
		return unknownDim
	}
	return Symbol(fmt.Sprintf("min(%d,%s)", n, symbol))
}

// isAtMost reports whether a is min(n, b) for some n. Such sizes broadcast to
// b whenever they broadcast: they are equal, or n is 1.
func isAtMost(a, b Dim) bool {
	rest, ok := strings.CutPrefix(a.Symbol, "min(")
	if !ok || b.Symbol == "" {
		return false
	}
	n, symbol, ok := strings.Cut(strings.TrimSuffix(rest, ")"), ",")
	_, err := strconv.ParseInt(n, 10, 64)
	return ok && err == nil && symbol == b.Symbol
}

func listShapes(shapes []Shape) string {
	out := ""
	for i, s := range shapes {
		if i > 0 {
			out += " and "
		}
		out += s.String()
	}
	return out
}

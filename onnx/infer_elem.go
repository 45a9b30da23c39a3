package onnx

import (
	"encoding/binary"
	"math"
)

// maxElems bounds the integer vectors whose contents InferShapes follows;
// longer ones are no shapes.
const maxElems = 256

// An elem is one element of an integer value that inference follows: a
// number, a symbol (the size of a symbolic dimension, hence not negative), or
// unknown.
type elem struct {
	known  bool
	value  int64
	symbol string
}

func number(v int64) elem { return elem{known: true, value: v} }

// truth is a known boolean, stored as 0 or 1.
func truth(b bool) elem {
	if b {
		return number(1)
	}
	return number(0)
}

// elem turns a dimension into an element.
func (d Dim) elem() elem {
	if d.Size >= 0 {
		return number(d.Size)
	}
	return elem{symbol: d.Symbol}
}

// dim turns an element into the dimension it stands for; a negative number
// is no dimension and becomes unknown.
func (e elem) dim() Dim {
	if e.known && e.value >= 0 {
		return Dim{Size: e.value}
	}
	return Dim{Size: -1, Symbol: e.symbol}
}

// same reports whether two elements are known to be equal.
func (e elem) same(f elem) bool {
	return e == f && (e.known || e.symbol != "")
}

// contents returns the followed contents of a value. A constant is looked at
// when it is first asked for.
func (v *inferred) contents() []elem {
	if v == nil {
		return nil
	}
	if v.lazy {
		v.lazy = false
		v.elems = tensorElems(v.from)
	}
	return v.elems
}

// tensorElems returns the elements of a small integer or boolean scalar or
// vector, otherwise nil.
func tensorElems(t *Tensor) []elem {
	if t == nil || len(t.Dims) > 1 {
		return nil
	}
	n, ok := t.elements()
	if !ok || n > maxElems || int64(len(t.Data)) != t.Type.bytesFor(n) {
		return nil
	}
	out := make([]elem, n)
	for i := range out {
		switch t.Type {
		case Int64:
			out[i] = number(int64(binary.LittleEndian.Uint64(t.Data[8*i:])))
		case Int32:
			out[i] = number(int64(int32(binary.LittleEndian.Uint32(t.Data[4*i:]))))
		case Bool:
			out[i] = truth(t.Data[i] != 0)
		default:
			return nil
		}
	}
	return out
}

// elemsTensor makes a tensor of contents that are all known.
func elemsTensor(v *inferred) (*Tensor, bool) {
	if v.elems == nil || !v.Shape.Known() || len(v.Shape) > 1 {
		return nil, false
	}
	dims := make([]int64, len(v.Shape))
	for i, d := range v.Shape {
		dims[i] = d.Size
	}
	t := &Tensor{Name: v.Name, Type: v.Type, Dims: dims}
	for _, e := range v.elems {
		if !e.known {
			return nil, false
		}
		switch v.Type {
		case Int64:
			t.Data = binary.LittleEndian.AppendUint64(t.Data, uint64(e.value))
		case Int32:
			t.Data = binary.LittleEndian.AppendUint32(t.Data, uint32(int32(e.value)))
		case Bool:
			t.Data = append(t.Data, byte(e.value))
		default:
			return nil, false
		}
	}
	n, ok := t.elements()
	return t, ok && n == int64(len(v.elems))
}

// follows reports whether the contents of values of type t are followed.
func follows(t DataType) bool { return t == Int64 || t == Int32 || t == Bool }

// addElems, subElems and mulElems compute with overflow leading to unknown;
// neutral elements keep symbols.
func addElems(a, b elem) elem {
	switch {
	case a.known && b.known:
		if s := a.value + b.value; (s > a.value) == (b.value > 0) {
			return number(s)
		}
	case a == number(0):
		return b
	case b == number(0):
		return a
	}
	return elem{}
}

func subElems(a, b elem) elem {
	switch {
	case b.known && b.value != math.MinInt64:
		return addElems(a, number(-b.value))
	case a.same(b):
		return number(0)
	}
	return elem{}
}

func mulElems(a, b elem) elem {
	switch {
	case a.known && b.known:
		if p, ok := mulOverflow(a.value, b.value); ok {
			return number(p)
		}
	case a == number(1):
		return b
	case b == number(1):
		return a
	}
	return elem{}
}

func divElems(a, b elem) elem {
	switch {
	case a.known && b.known && b.value != 0 && b.value != -1:
		return number(a.value / b.value)
	case b == number(1):
		return a
	case a.symbol != "" && a.same(b):
		return elem{}
	}
	return elem{}
}

// mulOverflow multiplies and reports whether the product fits.
func mulOverflow(a, b int64) (int64, bool) {
	if a == 0 || b == 0 {
		return 0, true
	}
	p := a * b
	if p/b != a || (a == -1 && b == math.MinInt64) || (b == -1 && a == math.MinInt64) {
		return 0, false
	}
	return p, true
}

package grad

import (
	"fmt"
	"slices"

	"galley/onnx"
)

// ShapeOf returns an int64 vector with the dimensions of a forward value. A
// shape that is known, or that another value is known to share, is not
// computed again.
func (c *Context) ShapeOf(value string) string {
	s := c.Shape(value)
	if s.Known() {
		return c.Ints(sizes(s)...)
	}
	key := "shape of " + value
	if s != nil && !hasUnnamed(s) {
		key = "shape " + s.String()
	}
	return c.memo(key, func() string { return c.Op("Shape", value) })
}

// ReshapeTo gives g, which has as many elements as the forward value, that
// value's shape.
func (c *Context) ReshapeTo(g, value string) string {
	s := c.Shape(value)
	if s != nil && !s.Known() {
		if target, ok := inferredShape(s); ok {
			return c.Op("Reshape", g, c.Ints(target...))
		}
	}
	return c.reshape(g, c.ShapeOf(value))
}

// inferredShape writes a shape with exactly one unknown size as the argument
// of Reshape, where -1 stands for that size. Beside a size of zero it could
// not be inferred.
func inferredShape(s onnx.Shape) ([]int64, bool) {
	unknown := 0
	target := make([]int64, len(s))
	for i, d := range s {
		target[i] = d.Size
		switch {
		case d.Size < 0:
			target[i] = -1
			unknown++
		case d.Size == 0:
			return nil, false
		}
	}
	return target, unknown == 1
}

// hasUnnamed reports whether a dimension has neither a size nor a symbol.
func hasUnnamed(s onnx.Shape) bool {
	return slices.ContainsFunc(s, func(d onnx.Dim) bool { return d.Size < 0 && d.Symbol == "" })
}

// flatten2D gives a value of the shape of like, whose last dimension is the
// fixed n > 0, the shape [-1, n].
func (c *Context) flatten2D(value, like string, n int64) string {
	if len(c.Shape(like)) == 2 {
		return value
	}
	return c.memo(flattenKey(value, n), func() string {
		return c.Op("Reshape", value, c.Ints(-1, n))
	})
}

func flattenKey(value string, columns int64) string {
	return fmt.Sprint("flatten ", value, " ", columns)
}

// zeros returns zeros of a forward value's shape and type.
func (c *Context) zeros(value string) string { return c.filled(value, 0) }

// filled returns a tensor of a forward value's shape and type whose elements
// are all v.
func (c *Context) filled(value string, v float64) string {
	t := c.Type(value)
	if t == onnx.Undefined {
		t = c.elementType()
	}
	return c.OpAttrs("ConstantOfShape", map[string]onnx.Attr{"value": tensorOf(t, "", []float64{v}, 1)}, c.ShapeOf(value))
}

// dim returns dimension i of a forward value as an int64 vector of length 1.
func (c *Context) dim(value string, i int) string {
	if s := c.Shape(value); i < len(s) && s[i].Size >= 0 {
		return c.Ints(s[i].Size)
	}
	shape := c.ShapeOf(value)
	return c.memo(fmt.Sprint("dim ", shape, " ", i), func() string {
		return c.Op("Slice", shape, c.Ints(int64(i)), c.Ints(int64(i)+1))
	})
}

// sizes returns the dimensions of a known shape.
func sizes(s onnx.Shape) []int64 {
	out := make([]int64, len(s))
	for i, d := range s {
		out[i] = d.Size
	}
	return out
}

// fixedProduct multiplies dimensions, if all are fixed.
func fixedProduct(s onnx.Shape) (int64, bool) {
	n := int64(1)
	for _, d := range s {
		if d.Size < 0 {
			return 0, false
		}
		n *= d.Size
	}
	return n, true
}

// sameDim reports whether two dimensions are known to be equal.
func sameDim(a, b onnx.Dim) bool {
	if a.Size >= 0 || b.Size >= 0 {
		return a.Size == b.Size
	}
	return a.Symbol != "" && a.Symbol == b.Symbol
}

// sameShape reports whether two shapes are known to be equal.
func sameShape(a, b onnx.Shape) bool {
	return a != nil && b != nil && slices.EqualFunc(a, b, sameDim)
}

// sequence returns first, first+1, ..., last-1.
func sequence(first, last int) []int64 {
	out := make([]int64, 0, max(last-first, 0))
	for i := first; i < last; i++ {
		out = append(out, int64(i))
	}
	return out
}

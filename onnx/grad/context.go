package grad

import (
	"encoding/binary"
	"fmt"
	"math"

	"galley"
	"galley/onnx"
)

// A Context is what a gradient Func works with: the node, what is known of
// the forward graph's values, and a Builder that appends to the training
// graph.
type Context struct {
	*onnx.Builder
	Node *onnx.Node
	d    *differentiator
}

// In returns the name of input i; "" if it is omitted.
func (c *Context) In(i int) string {
	if i < len(c.Node.Inputs) {
		return c.Node.Inputs[i]
	}
	return ""
}

// Out returns the name of output i; "" if it is omitted.
func (c *Context) Out(i int) string {
	if i < len(c.Node.Outputs) {
		return c.Node.Outputs[i]
	}
	return ""
}

// WantOut returns the name of output i and asks the forward node for that
// output if it was omitted: statistics that the backward would otherwise
// compute anew.
func (c *Context) WantOut(i int) string {
	for len(c.Node.Outputs) <= i {
		c.Node.Outputs = append(c.Node.Outputs, "")
	}
	if c.Node.Outputs[i] == "" {
		c.Node.Outputs[i] = c.Name(fmt.Sprintf("%s_%d", c.Node.Outputs[0], i))
	}
	return c.Node.Outputs[i]
}

// Needs reports whether a gradient of input i is asked for.
func (c *Context) Needs(i int) bool { return c.d.active[c.In(i)] && c.In(i) != "" }

// Shape returns what is known of a forward value's shape.
func (c *Context) Shape(value string) onnx.Shape { return c.d.types[value].Shape }

// Type returns a forward value's element type; Undefined if it is not known.
func (c *Context) Type(value string) onnx.DataType { return c.d.types[value].Type }

// Rank returns the number of a value's dimensions, or an error that names the
// value if it is not known.
func (c *Context) Rank(value string) (int, error) {
	s := c.Shape(value)
	if s == nil {
		return 0, c.Errorf("the number of dimensions of %s is not known", value).
			WithRemedy("export the model with shapes, or declare the shape of its inputs")
	}
	return len(s), nil
}

// Axis resolves an axis of a value, which may be negative.
func (c *Context) Axis(value string, axis int64) (int, error) {
	rank, err := c.Rank(value)
	if err != nil {
		return 0, err
	}
	if axis < 0 {
		axis += int64(rank)
	}
	if axis < 0 || axis >= int64(rank) {
		return 0, c.Errorf("axis %d is outside the %d dimensions of %s", axis, rank, value)
	}
	return int(axis), nil
}

// Axes resolves axes of a value, which may be negative.
func (c *Context) Axes(value string, axes []int64) ([]int64, error) {
	out := make([]int64, len(axes))
	for i, a := range axes {
		axis, err := c.Axis(value, a)
		if err != nil {
			return nil, err
		}
		out[i] = int64(axis)
	}
	return out, nil
}

// Errorf makes an error about the node, of code Unimplemented.
func (c *Context) Errorf(format string, args ...any) *galley.Error {
	return galley.Errorf(galley.Unimplemented, nodeName(c.Node), "gradient of %s: %s", c.Node.Op, fmt.Sprintf(format, args...))
}

// AttrOrInput returns a list of integers that older versions of an operator
// have as an attribute and newer ones as input i. given is false if it is
// omitted; an error says that it is computed in the graph.
func (c *Context) AttrOrInput(attr string, i int) (list []int64, given bool, err error) {
	if list, ok := c.Node.AttrInts(attr); ok {
		return list, true, nil
	}
	if c.In(i) == "" {
		return nil, false, nil
	}
	list, ok := c.ConstInts(c.In(i))
	if !ok {
		return nil, true, c.Errorf("%s is computed in the graph; only constants are understood", attr)
	}
	return list, true, nil
}

// ConstInts returns the elements of a constant integer value.
func (c *Context) ConstInts(value string) ([]int64, bool) {
	t, ok := c.d.constant(value)
	if !ok {
		return nil, false
	}
	return t.Ints()
}

// ConstFloat returns the element of a constant value with one floating-point
// element.
func (c *Context) ConstFloat(value string) (float64, bool) { return c.d.scalar(value) }

func (d *differentiator) scalar(value string) (float64, bool) {
	t, ok := d.constant(value)
	if !ok || t.Size() != 1 {
		return 0, false
	}
	if t.Type == onnx.Double && len(t.Data) == 8 {
		return math.Float64frombits(binary.LittleEndian.Uint64(t.Data)), true
	}
	f, ok := t.Floats()
	if !ok {
		return 0, false
	}
	return float64(f[0]), true
}

// ConstNumber is ConstFloat for a number of any type.
func (c *Context) ConstNumber(value string) (float64, bool) {
	if list, ok := c.ConstInts(value); ok && len(list) == 1 {
		return float64(list[0]), true
	}
	return c.ConstFloat(value)
}

// Scalar returns a constant in the element type of the node's gradients.
func (c *Context) Scalar(v float64) string {
	t := c.elementType()
	return c.memo(fmt.Sprintf("scalar %d %x", t, math.Float64bits(v)), func() string {
		return c.Weight(tensorOf(t, c.Name("const"), []float64{v}))
	})
}

// castTo converts a forward value to the element type of the node's
// gradients.
func (c *Context) castTo(value string) string {
	t := c.elementType()
	if c.Type(value) == t {
		return value
	}
	return c.OpAttrs("Cast", map[string]onnx.Attr{"to": int64(t)}, value)
}

// tensorOf makes a constant of a floating-point type; Float for others.
func tensorOf(t onnx.DataType, name string, values []float64, dims ...int64) *onnx.Tensor {
	switch t {
	case onnx.Double:
		data := make([]byte, 8*len(values))
		for i, v := range values {
			binary.LittleEndian.PutUint64(data[8*i:], math.Float64bits(v))
		}
		return &onnx.Tensor{Name: name, Type: onnx.Double, Dims: append([]int64{}, dims...), Data: data}
	default:
		floats := make([]float32, len(values))
		for i, v := range values {
			floats[i] = float32(v)
		}
		return onnx.NewFloat(name, floats, dims...)
	}
}

// memo returns the value that compute has emitted under key before, or emits
// it.
func (c *Context) memo(key string, compute func() string) string {
	if v, ok := c.d.memo[key]; ok {
		return v
	}
	v := compute()
	c.d.memo[key] = v
	return v
}

package grad

import "galley/onnx"

// SumTo undoes broadcasting: g has the shape of the forward value from, to
// which the forward value to was broadcast, and is summed to the shape of to.
//
// Sizes decide which axes are summed; a symbol equals itself. Where they
// leave it open, the axes are computed in the graph.
func (c *Context) SumTo(g, from, to string) string {
	if from == to {
		return g
	}
	return c.sumToShape(g, c.Shape(from), to)
}

// sumToShape is SumTo for a g whose shape is that of no forward value.
func (c *Context) sumToShape(g string, from onnx.Shape, to string) string {
	target := c.Shape(to)
	if sameShape(from, target) {
		return g
	}
	axes, ok := broadcastAxes(from, target)
	if !ok {
		return c.dynamicSumTo(g, to)
	}
	if len(axes) == 0 && len(from) == len(target) {
		return g
	}
	if len(axes) == 0 {
		return c.ReshapeTo(g, to)
	}
	leading := len(axes)
	if axes[leading-1] != int64(leading-1) {
		leading = 0
	}
	if columns, fixed := fixedProduct(from[leading:]); fixed && columns > 1 && leading > 0 {
		return c.ReshapeTo(c.columnSums(g, from, leading, columns), to)
	}
	if len(from) == len(target) {
		return c.reduceSum(g, axes, true)
	}
	return c.ReshapeTo(c.reduceSum(g, axes, false), to)
}

// broadcastAxes returns the axes of from along which a value of shape to was
// repeated; false if the sizes do not tell.
func broadcastAxes(from, to onnx.Shape) ([]int64, bool) {
	if from == nil || to == nil || len(to) > len(from) {
		return nil, false
	}
	added := len(from) - len(to)
	var axes []int64
	for i, f := range from {
		if i < added {
			axes = append(axes, int64(i))
			continue
		}
		t := to[i-added]
		switch {
		case sameDim(f, t), t.Size > 1, t.Size == 0, f.Size == 1:
		case t.Size == 1:
			axes = append(axes, int64(i))
		default:
			return nil, false
		}
	}
	return axes, true
}

// columnSums sums g, of the given shape, over its leading dimensions; the rest
// are columns. The product with a row of ones is faster than ReduceSum.
func (c *Context) columnSums(g string, shape onnx.Shape, leading int, columns int64) string {
	matrix := g
	if leading != 1 || len(shape) != 2 {
		matrix = c.memo(flattenKey(g, columns), func() string { return c.Op("Reshape", g, c.Ints(-1, columns)) })
	}
	return c.Op("MatMul", c.onesRow(matrix, shape[:leading]), matrix)
}

// onesRow returns ones of shape [1, m], m being the number of rows of matrix
// and the product of the dimensions rows. Matrices with the same dimensions
// share it.
func (c *Context) onesRow(matrix string, rows onnx.Shape) string {
	t := c.elementType()
	one := tensorOf(t, "", []float64{1}, 1)
	key := "ones " + rows.String() + " " + t.String()
	if hasUnnamed(rows) {
		key = "ones for " + matrix
	}
	return c.memo(key, func() string {
		var count string
		if m, fixed := fixedProduct(rows); fixed {
			count = c.Ints(1, m)
		} else {
			m := c.Op("Slice", c.Op("Shape", matrix), c.Ints(0), c.Ints(1))
			count = c.OpAttrs("Concat", map[string]onnx.Attr{"axis": int64(0)}, c.Ints(1), m)
		}
		return c.OpAttrs("ConstantOfShape", map[string]onnx.Attr{"value": one}, count)
	})
}

// dynamicSumTo is SumTo with axes computed from the shapes at run time.
func (c *Context) dynamicSumTo(g, to string) string {
	gShape := c.Op("Shape", g)
	toShape := c.ShapeOf(to)
	missing := c.Op("Sub", c.Op("Shape", gShape), c.Op("Shape", toShape))
	ones := c.OpAttrs("ConstantOfShape", map[string]onnx.Attr{"value": onnx.NewInt64("", []int64{1}, 1)}, missing)
	padded := c.OpAttrs("Concat", map[string]onnx.Attr{"axis": int64(0)}, ones, toShape)
	differs := c.Op("Not", c.Op("Equal", gShape, padded))
	axes := c.Op("Reshape", c.Op("NonZero", differs), c.Ints(-1))
	sum := c.OpAttrs("ReduceSum", map[string]onnx.Attr{"keepdims": int64(1), "noop_with_empty_axes": int64(1)}, g, axes)
	return c.reshape(sum, toShape)
}

// reduceSum sums over constant axes.
func (c *Context) reduceSum(g string, axes []int64, keep bool) string {
	k := int64(0)
	if keep {
		k = 1
	}
	return c.OpAttrs("ReduceSum", map[string]onnx.Attr{"keepdims": k}, g, c.Ints(axes...))
}

// elementType is the type of the gradients at the node: that of its first
// output or, if that is not known, of its first input.
func (c *Context) elementType() onnx.DataType {
	for _, value := range []string{c.Out(0), c.In(0)} {
		if t := c.Type(value); t.IsFloat() {
			return t
		}
	}
	return onnx.Float
}

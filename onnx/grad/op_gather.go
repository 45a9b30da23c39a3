package grad

import (
	"slices"

	"galley/onnx"
)

func init() {
	Register("", "Gather", gatherGrad)
	Register("", "GatherElements", gatherElementsGrad)
	Register("", "GatherND", gatherNDGrad)
}

// oneHotRows is the number of rows up to which a table's gradient is a
// product with a one-hot matrix: beyond it adding row by row is faster. OneHot
// exists for Float only.
const oneHotRows = 64

func gatherGrad(c *Context, dy []string) ([]string, error) {
	x, indices := c.In(0), c.In(1)
	axis, err := c.Axis(x, c.Node.AttrInt("axis", 0))
	if err != nil {
		return nil, err
	}
	shape := c.Shape(x)
	if axis == 0 && slices.Contains(c.d.opts.RowGradients, x) {
		c.addRows(dy[0])
		return nil, nil
	}
	if g, ok := c.padRow(dy[0], axis); ok {
		return []string{g}, nil
	}
	count := c.Op("Reshape", c.Op("Size", indices), c.Ints(1))
	if n, fixed := fixedProduct(c.Shape(indices)); fixed && c.Shape(indices) != nil {
		count = c.Ints(n)
	}
	width := c.product(x, axis+1, len(shape))
	rows := shape[axis].Size
	if axis == 0 && rows > 0 && rows <= oneHotRows && c.elementType() == onnx.Float {
		hot := c.OpAttrs("OneHot", map[string]onnx.Attr{"axis": int64(-1)},
			c.Op("Reshape", indices, c.Ints(-1)), c.Ints(rows), c.onOff())
		flat := c.reshapeDims(dy[0], count, width)
		return []string{c.ReshapeTo(c.gemm(hot, flat, product{transA: true, alpha: 1}), x)}, nil
	}
	g := c.scatterAdd(x, c.product(x, 0, axis), c.dim(x, axis), width,
		c.reshapeDims(indices, c.Ints(1), count, c.Ints(1)), count, dy[0])
	return []string{g}, nil
}

// onOff is the pair (0, 1) that OneHot writes.
func (c *Context) onOff() string {
	return c.memo("on and off", func() string {
		return c.Weight(onnx.NewFloat(c.Name("const"), []float32{0, 1}, 2))
	})
}

// addRows lets the gradient of a table leave the graph as rows.
func (c *Context) addRows(dy string) {
	table, indices := c.In(0), c.In(1)
	if c.Type(indices) != onnx.Int64 {
		indices = c.OpAttrs("Cast", map[string]onnx.Attr{"to": int64(onnx.Int64)}, indices)
	}
	flat := c.Op("Reshape", indices, c.Ints(-1))
	// Mod takes the divisor's sign, so that -1 becomes the last row.
	flat = c.Op("Mod", flat, c.dim(table, 0))
	dims := []string{c.Op("Shape", flat)}
	for i := 1; i < len(c.Shape(table)); i++ {
		dims = append(dims, c.dim(table, i))
	}
	c.d.rows[table] = append(c.d.rows[table], RowGradient{Indices: flat, Rows: c.reshapeDims(dy, dims...)})
}

// padRow is the gradient of taking one constant index along an axis: dy
// between zeros.
func (c *Context) padRow(dy string, axis int) (string, bool) {
	x := c.In(0)
	shape, n := c.Shape(c.In(1)), c.Shape(x)[axis].Size
	index, ok := c.ConstInts(c.In(1))
	if shape == nil || len(shape) != 0 || !ok || n < 0 {
		return "", false
	}
	i := index[0]
	if i < 0 {
		i += n
	}
	if i < 0 || i >= n {
		return "", false
	}
	rank := len(c.Shape(x))
	pads := make([]int64, 2*rank)
	pads[axis], pads[rank+axis] = i, n-1-i
	return c.Op("Pad", c.Op("Unsqueeze", dy, c.Ints(int64(axis))), c.Ints(pads...)), true
}

func gatherElementsGrad(c *Context, dy []string) ([]string, error) {
	attrs := map[string]onnx.Attr{"axis": c.Node.AttrInt("axis", 0), "reduction": "add"}
	return []string{c.OpAttrs("ScatterElements", attrs, c.zeros(c.In(0)), c.In(1), dy[0])}, nil
}

// gatherNDGrad turns index tuples into positions in the gathered dimensions
// taken as one.
func gatherNDGrad(c *Context, dy []string) ([]string, error) {
	x, indices := c.In(0), c.In(1)
	rank, err := c.Rank(x)
	if err != nil {
		return nil, err
	}
	indexRank, err := c.Rank(indices)
	if err != nil {
		return nil, err
	}
	batch, tuple := int(c.Node.AttrInt("batch_dims", 0)), -1
	if indexRank > 0 {
		tuple = int(c.Shape(indices)[indexRank-1].Size)
	}
	if tuple < 1 || batch < 0 || batch >= indexRank || batch+tuple > rank {
		return nil, c.Errorf("index tuples of %s do not fit, or their length is not known", indices)
	}
	sizes, strides := make([]string, tuple), make([]string, tuple)
	for i := range tuple {
		sizes[i] = c.dim(x, batch+i)
		strides[i] = c.product(x, batch+i+1, batch+tuple)
	}
	axis := map[string]onnx.Attr{"axis": int64(0)}
	positive := c.Op("Mod", indices, c.OpAttrs("Concat", axis, sizes...))
	flat := c.reduceSum(c.Op("Mul", positive, c.OpAttrs("Concat", axis, strides...)), []int64{-1}, false)
	outer := c.product(x, 0, batch)
	count := c.product(indices, batch, indexRank-1)
	g := c.scatterAdd(x, outer, c.product(x, batch, batch+tuple), c.product(x, batch+tuple, rank),
		c.reshapeDims(flat, outer, count, c.Ints(1)), count, dy[0])
	return []string{g}, nil
}

// scatterAdd returns zeros of x's shape, taken as [outer, n, width], to which
// count rows of dy, [outer, count, width], are added at indices, which
// broadcast against that. ScatterElements adds in order with one thread;
// ScatterND would do it in any.
func (c *Context) scatterAdd(x, outer, n, width, indices, count, dy string) string {
	axis := map[string]onnx.Attr{"axis": int64(0)}
	shape := c.OpAttrs("Concat", axis, outer, count, width)
	zeros := c.OpAttrs("ConstantOfShape",
		map[string]onnx.Attr{"value": tensorOf(c.elementType(), "", []float64{0}, 1)},
		c.OpAttrs("Concat", axis, outer, n, width))
	sum := c.OpAttrs("ScatterElements", map[string]onnx.Attr{"axis": int64(1), "reduction": "add"},
		zeros, c.Op("Expand", indices, shape), c.reshape(dy, shape))
	return c.ReshapeTo(sum, x)
}

// reshape gives v the shape that an int64 vector holds, sizes of zero
// included.
func (c *Context) reshape(v, shape string) string {
	return c.OpAttrs("Reshape", map[string]onnx.Attr{"allowzero": int64(1)}, v, shape)
}

// reshapeDims is reshape with one vector of length 1 for each dimension.
func (c *Context) reshapeDims(v string, dims ...string) string {
	return c.reshape(v, c.OpAttrs("Concat", map[string]onnx.Attr{"axis": int64(0)}, dims...))
}

// product multiplies the dimensions first to last-1 of a forward value, as an
// int64 vector of length 1.
func (c *Context) product(value string, first, last int) string {
	if n, fixed := fixedProduct(c.Shape(value)[first:last]); fixed {
		return c.Ints(n)
	}
	if last == first+1 {
		return c.dim(value, first)
	}
	part := c.Op("Slice", c.ShapeOf(value), c.Ints(int64(first)), c.Ints(int64(last)))
	return c.Op("ReduceProd", part)
}

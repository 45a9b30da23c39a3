package grad

import (
	"galley/onnx"
)

func init() { Register("", "LayerNormalization", layerNormGrad) }

// y = n*scale + bias, n = (x-mean)*inv over the axes from axis on.
//
// With g = dy*scale, dx = inv * (g - mean(g) - n*mean(g*n)). The sums over a
// row are products with the scale as a column: sum(g) = dy @ scale. The mean
// and inverse deviation are outputs of the forward node.
func layerNormGrad(c *Context, dy []string) ([]string, error) {
	if len(dy) > 1 && (dy[1] != "" || len(dy) > 2 && dy[2] != "") {
		return nil, c.Errorf("its mean and inverse deviation are outputs without a gradient")
	}
	x, scale := c.In(0), c.In(1)
	axis, err := c.Axis(x, c.Node.AttrInt("axis", -1))
	if err != nil {
		return nil, err
	}
	mean, inv := c.WantOut(1), c.WantOut(2)
	normal := c.Op("Mul", c.Op("Sub", x, mean), inv)
	weighted := c.Op("Mul", dy[0], normal)

	dx := make([]string, 3)
	if c.Needs(1) {
		dx[1] = c.SumTo(weighted, x, scale)
	}
	if c.Needs(2) {
		dx[2] = c.SumTo(dy[0], x, c.In(2))
	}
	if !c.Needs(0) {
		return dx, nil
	}
	sums := c.normSums(axis)
	shift := c.Op("Mul", sums(dy[0]), inv)
	tilt := c.Op("Mul", sums(weighted), inv)
	straight := c.Op("Mul", c.Op("Mul", dy[0], inv), scale)
	dx[0] = c.Op("Sub", straight, c.Op("Add", c.Op("Mul", normal, tilt), shift))
	return dx, nil
}

// normSums returns a function that sums v*scale/size over the normalized
// axes, which stay with length 1; size is the number of their elements.
func (c *Context) normSums(axis int) func(v string) string {
	x, scale := c.In(0), c.In(1)
	shape := c.Shape(x)
	size, fixed := fixedProduct(shape[axis:])
	if fixed && size > 0 && axis == len(shape)-1 && sameShape(c.Shape(scale), shape[axis:]) {
		column := c.Op("Reshape", c.Op("Mul", scale, c.Scalar(1/float64(size))), c.Ints(size, 1))
		return func(v string) string { return c.Op("MatMul", v, column) }
	}
	axes := sequence(axis, len(shape))
	return func(v string) string {
		return c.Op("Mul", c.reduceSum(c.Op("Mul", v, scale), axes, true), c.inverseCount(x, c.WantOut(1)))
	}
}

// inverseCount returns the size of reduced divided by the size of x, as a
// scalar: one over how many elements of x a reduction joined.
func (c *Context) inverseCount(x, reduced string) string {
	to := map[string]onnx.Attr{"to": int64(c.elementType())}
	return c.Op("Div",
		c.OpAttrs("Cast", to, c.Op("Size", reduced)),
		c.OpAttrs("Cast", to, c.Op("Size", x)))
}

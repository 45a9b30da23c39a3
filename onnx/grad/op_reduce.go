package grad

import (
	"galley/onnx"
)

func init() {
	Register("", "ReduceSum", reduceSumGrad)
	Register("", "ReduceMean", reduceMeanGrad)
	Register("", "ReduceMax", reduceExtremeGrad)
	Register("", "ReduceMin", reduceExtremeGrad)
	Register("", "ReduceL1", reduceL1Grad)
	Register("", "ReduceL2", reduceL2Grad)
	Register("", "ReduceSumSquare", reduceSumSquareGrad)
	Register("", "ReduceLogSumExp", reduceLogSumExpGrad)
}

// keepAxes gives a value of the reduction's output shape the reduced axes
// back, with length 1, so that it broadcasts against the input.
func (c *Context) keepAxes(v string) (string, error) {
	if c.Node.AttrInt("keepdims", 1) != 0 {
		return v, nil
	}
	axes, given, err := c.AttrOrInput("axes", 1)
	if err != nil {
		return "", err
	}
	if given && len(axes) > 0 {
		return c.Op("Unsqueeze", v, c.Ints(axes...)), nil
	}
	// Without axes all are reduced and v is a scalar, or none is.
	return v, nil
}

// spread repeats g, which broadcasts against the input, to the input's shape.
func (c *Context) spread(g string) string {
	return c.Op("Expand", g, c.ShapeOf(c.In(0)))
}

func reduceSumGrad(c *Context, dy []string) ([]string, error) {
	g, err := c.keepAxes(dy[0])
	if err != nil {
		return nil, err
	}
	return []string{c.spread(g)}, nil
}

func reduceMeanGrad(c *Context, dy []string) ([]string, error) {
	g, err := c.keepAxes(dy[0])
	if err != nil {
		return nil, err
	}
	return []string{c.spread(c.Op("Mul", g, c.inverseCount(c.In(0), c.Out(0))))}, nil
}

// Elements that share the extreme share the gradient.
func reduceExtremeGrad(c *Context, dy []string) ([]string, error) {
	x := c.In(0)
	g, err := c.keepAxes(dy[0])
	if err != nil {
		return nil, err
	}
	y, err := c.keepAxes(c.Out(0))
	if err != nil {
		return nil, err
	}
	chosen := c.castBool(c.Op("Equal", x, y))
	count, err := c.sumAsNode(chosen)
	if err != nil {
		return nil, err
	}
	return []string{c.Op("Mul", chosen, c.Op("Div", g, count))}, nil
}

// sumAsNode sums v over the axes of the node and keeps them.
func (c *Context) sumAsNode(v string) (string, error) {
	axes, given, err := c.AttrOrInput("axes", 1)
	if err != nil {
		return "", err
	}
	switch {
	case given && len(axes) > 0:
		return c.reduceSum(v, axes, true), nil
	case c.Node.AttrInt("noop_with_empty_axes", 0) != 0:
		return v, nil
	default:
		return c.OpAttrs("ReduceSum", map[string]onnx.Attr{"keepdims": int64(1)}, v), nil
	}
}

func (c *Context) castBool(mask string) string {
	return c.OpAttrs("Cast", map[string]onnx.Attr{"to": int64(c.elementType())}, mask)
}

func reduceL1Grad(c *Context, dy []string) ([]string, error) {
	g, err := c.keepAxes(dy[0])
	if err != nil {
		return nil, err
	}
	return []string{c.Op("Mul", c.Op("Sign", c.In(0)), g)}, nil
}

// dx = x * dy/y; 0 where the norm is 0.
func reduceL2Grad(c *Context, dy []string) ([]string, error) {
	y := c.Out(0)
	zero := c.Op("Equal", y, c.Scalar(0))
	ratio := c.Op("Where", zero, c.Scalar(0), c.Op("Div", dy[0], c.Op("Where", zero, c.Scalar(1), y)))
	g, err := c.keepAxes(ratio)
	if err != nil {
		return nil, err
	}
	return []string{c.Op("Mul", c.In(0), g)}, nil
}

func reduceSumSquareGrad(c *Context, dy []string) ([]string, error) {
	g, err := c.keepAxes(c.Op("Mul", dy[0], c.Scalar(2)))
	if err != nil {
		return nil, err
	}
	return []string{c.Op("Mul", c.In(0), g)}, nil
}

// dx = dy * exp(x-y)
func reduceLogSumExpGrad(c *Context, dy []string) ([]string, error) {
	g, err := c.keepAxes(dy[0])
	if err != nil {
		return nil, err
	}
	y, err := c.keepAxes(c.Out(0))
	if err != nil {
		return nil, err
	}
	return []string{c.Op("Mul", c.Op("Exp", c.Op("Sub", c.In(0), y)), g)}, nil
}

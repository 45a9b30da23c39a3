package grad

func init() {
	Register("", "Where", whereGrad)
	Register("", "Max", extremeGrad)
	Register("", "Min", extremeGrad)
	Register("", "Clip", clipGrad)
}

func whereGrad(c *Context, dy []string) ([]string, error) {
	condition, zero := c.In(0), c.Scalar(0)
	dx := make([]string, 3)
	if c.Needs(1) {
		dx[1] = c.SumTo(c.Op("Where", condition, dy[0], zero), c.Out(0), c.In(1))
	}
	if c.Needs(2) {
		dx[2] = c.SumTo(c.Op("Where", condition, zero, dy[0]), c.Out(0), c.In(2))
	}
	return dx, nil
}

// Inputs that share the extreme share the gradient.
func extremeGrad(c *Context, dy []string) ([]string, error) {
	inputs, y := c.Node.Inputs, c.Out(0)
	if len(inputs) == 1 {
		return dy[:1], nil
	}
	chosen := make([]string, len(inputs))
	count := ""
	for i, in := range inputs {
		chosen[i] = c.castBool(c.Op("Equal", in, y))
		if count == "" {
			count = chosen[i]
		} else {
			count = c.Op("Add", count, chosen[i])
		}
	}
	share := c.Op("Div", dy[0], count)
	dx := make([]string, len(inputs))
	for i, in := range inputs {
		if c.Needs(i) {
			dx[i] = c.SumTo(c.Op("Mul", share, chosen[i]), y, in)
		}
	}
	return dx, nil
}

// The gradient passes where x lies within the bounds, both included.
func clipGrad(c *Context, dy []string) ([]string, error) {
	x, zero := c.In(0), c.Scalar(0)
	dx := make([]string, 3)
	inside := dy[0]
	for i, outside := range []string{1: "Less", 2: "Greater"} {
		bound := c.In(i)
		if i == 0 || bound == "" {
			continue
		}
		beyond := c.Op(outside, x, bound)
		inside = c.Op("Where", beyond, zero, inside)
		if c.Needs(i) {
			dx[i] = c.SumTo(c.Op("Where", beyond, dy[0], zero), c.Out(0), bound)
		}
	}
	dx[0] = inside
	return dx, nil
}

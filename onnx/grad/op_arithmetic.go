package grad

func init() {
	Register("", "Add", addGrad)
	Register("", "Sub", subGrad)
	Register("", "Mul", mulGrad)
	Register("", "Div", divGrad)
	Register("", "Sum", sumGrad)
	Register("", "Mean", meanGrad)
	Register("", "Neg", negGrad)
	Register("", "Abs", absGrad)
	Register("", "Reciprocal", reciprocalGrad)
	Register("", "Sqrt", sqrtGrad)
	Register("", "Pow", powGrad)
}

// y = a + b
func addGrad(c *Context, dy []string) ([]string, error) {
	dx := make([]string, 2)
	for i := range dx {
		if c.Needs(i) {
			dx[i] = c.SumTo(dy[0], c.Out(0), c.In(i))
		}
	}
	return dx, nil
}

// y = a - b
func subGrad(c *Context, dy []string) ([]string, error) {
	dx := make([]string, 2)
	if c.Needs(0) {
		dx[0] = c.SumTo(dy[0], c.Out(0), c.In(0))
	}
	if c.Needs(1) {
		dx[1] = c.Op("Neg", c.SumTo(dy[0], c.Out(0), c.In(1)))
	}
	return dx, nil
}

// y = a * b
func mulGrad(c *Context, dy []string) ([]string, error) {
	dx := make([]string, 2)
	for i := range dx {
		if c.Needs(i) {
			dx[i] = c.SumTo(c.Op("Mul", dy[0], c.In(1-i)), c.Out(0), c.In(i))
		}
	}
	return dx, nil
}

// y = a / b: da = dy/b, db = -y * dy/b
func divGrad(c *Context, dy []string) ([]string, error) {
	dx := make([]string, 2)
	quotient := c.Op("Div", dy[0], c.In(1))
	if c.Needs(0) {
		dx[0] = c.SumTo(quotient, c.Out(0), c.In(0))
	}
	if c.Needs(1) {
		dx[1] = c.Op("Neg", c.SumTo(c.Op("Mul", quotient, c.Out(0)), c.Out(0), c.In(1)))
	}
	return dx, nil
}

func sumGrad(c *Context, dy []string) ([]string, error) {
	dx := make([]string, len(c.Node.Inputs))
	for i := range dx {
		if c.Needs(i) {
			dx[i] = c.SumTo(dy[0], c.Out(0), c.In(i))
		}
	}
	return dx, nil
}

func meanGrad(c *Context, dy []string) ([]string, error) {
	share := c.Op("Mul", dy[0], c.Scalar(1/float64(len(c.Node.Inputs))))
	return sumGrad(c, []string{share})
}

func negGrad(c *Context, dy []string) ([]string, error) {
	return []string{c.Op("Neg", dy[0])}, nil
}

// At 0 the gradient is 0.
func absGrad(c *Context, dy []string) ([]string, error) {
	return []string{c.Op("Mul", dy[0], c.Op("Sign", c.In(0)))}, nil
}

// y = 1/x: dx = -y*y*dy
func reciprocalGrad(c *Context, dy []string) ([]string, error) {
	y := c.Out(0)
	return []string{c.Op("Neg", c.Op("Mul", c.Op("Mul", y, y), dy[0]))}, nil
}

// dx = dy / 2y
func sqrtGrad(c *Context, dy []string) ([]string, error) {
	y := c.Out(0)
	return []string{c.Op("Div", c.Op("Mul", dy[0], c.Scalar(0.5)), y)}, nil
}

// y = a^b: da = dy * b * a^(b-1), and 0 where b is 0, also for an a of 0;
// db = dy * y * ln a, and 0 where a <= 0.
func powGrad(c *Context, dy []string) ([]string, error) {
	a, b, y := c.In(0), c.In(1), c.Out(0)
	dx := make([]string, 2)
	if c.Needs(0) {
		var slope string
		switch exponent, ok := c.ConstNumber(b); {
		case ok && exponent == 0:
			slope = c.Scalar(0)
		case ok && exponent == 2:
			slope = c.Op("Mul", a, c.Scalar(2))
		case ok:
			slope = c.Op("Mul", c.Op("Pow", a, c.Scalar(exponent-1)), c.Scalar(exponent))
		default:
			exponent := c.castTo(b)
			slope = c.Op("Mul", c.Op("Pow", a, c.Op("Sub", exponent, c.Scalar(1))), exponent)
			slope = c.Op("Where", c.Op("Equal", exponent, c.Scalar(0)), c.Scalar(0), slope)
		}
		dx[0] = c.SumTo(c.Op("Mul", dy[0], slope), y, a)
	}
	if c.Needs(1) {
		one := c.Scalar(1)
		positive := c.Op("Where", c.Op("Greater", a, c.Scalar(0)), a, one)
		g := c.Op("Mul", c.Op("Mul", dy[0], y), c.Op("Log", positive))
		dx[1] = c.SumTo(g, y, b)
	}
	return dx, nil
}

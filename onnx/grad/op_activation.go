package grad

import "math"

func init() {
	Register("", "Exp", expGrad)
	Register("", "Log", logGrad)
	Register("", "Erf", erfGrad)
	Register("", "Sin", sinGrad)
	Register("", "Cos", cosGrad)
	Register("", "Tanh", tanhGrad)
	Register("", "Sigmoid", sigmoidGrad)
	Register("", "Relu", reluGrad)
	Register("", "LeakyRelu", leakyReluGrad)
	Register("", "Elu", eluGrad)
	Register("", "Softplus", softplusGrad)
}

func expGrad(c *Context, dy []string) ([]string, error) {
	return []string{c.Op("Mul", dy[0], c.Out(0))}, nil
}

func logGrad(c *Context, dy []string) ([]string, error) {
	return []string{c.Op("Div", dy[0], c.In(0))}, nil
}

// dx = dy * 2/sqrt(pi) * exp(-x*x)
func erfGrad(c *Context, dy []string) ([]string, error) {
	x := c.In(0)
	bell := c.Op("Exp", c.Op("Neg", c.Op("Mul", x, x)))
	return []string{c.Op("Mul", c.Op("Mul", dy[0], c.Scalar(2/math.Sqrt(math.Pi))), bell)}, nil
}

func sinGrad(c *Context, dy []string) ([]string, error) {
	return []string{c.Op("Mul", dy[0], c.Op("Cos", c.In(0)))}, nil
}

func cosGrad(c *Context, dy []string) ([]string, error) {
	return []string{c.Op("Neg", c.Op("Mul", dy[0], c.Op("Sin", c.In(0))))}, nil
}

// dx = dy - dy*y*y
func tanhGrad(c *Context, dy []string) ([]string, error) {
	y := c.Out(0)
	return []string{c.Op("Sub", dy[0], c.Op("Mul", c.Op("Mul", dy[0], y), y))}, nil
}

// dx = s - s*y, s = dy*y
func sigmoidGrad(c *Context, dy []string) ([]string, error) {
	y := c.Out(0)
	s := c.Op("Mul", dy[0], y)
	return []string{c.Op("Sub", s, c.Op("Mul", s, y))}, nil
}

// At 0 the gradient is 0. The sign of y is 0 or 1.
func reluGrad(c *Context, dy []string) ([]string, error) {
	return []string{c.Op("Mul", dy[0], c.Op("Sign", c.Out(0)))}, nil
}

func leakyReluGrad(c *Context, dy []string) ([]string, error) {
	x := c.In(0)
	slope := c.Scalar(float64(c.Node.AttrFloat("alpha", 0.01)))
	positive := c.Op("Greater", x, c.Scalar(0))
	return []string{c.Op("Mul", dy[0], c.Op("Where", positive, c.Scalar(1), slope))}, nil
}

// y = alpha*(exp(x)-1) below 0, where the slope is y+alpha.
func eluGrad(c *Context, dy []string) ([]string, error) {
	x, y := c.In(0), c.Out(0)
	alpha := c.Scalar(float64(c.Node.AttrFloat("alpha", 1)))
	slope := c.Op("Where", c.Op("Greater", x, c.Scalar(0)), c.Scalar(1), c.Op("Add", y, alpha))
	return []string{c.Op("Mul", dy[0], slope)}, nil
}

func softplusGrad(c *Context, dy []string) ([]string, error) {
	return []string{c.Op("Mul", dy[0], c.Op("Sigmoid", c.In(0)))}, nil
}

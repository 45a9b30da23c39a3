package grad

import (
	"math"

	"galley/onnx"
)

func init() {
	Register("", "Gelu", geluGrad)
	Register(microsoft, "Gelu", geluGrad)
	Register(microsoft, "FastGelu", fastGeluGrad)
	Register(microsoft, "BiasGelu", biasGeluGrad)
}

func geluGrad(c *Context, dy []string) ([]string, error) {
	if c.Node.AttrString("approximate", "none") == "tanh" {
		return []string{c.tanhGeluSlope(dy[0], c.In(0))}, nil
	}
	return []string{c.geluSlope(dy[0], c.In(0))}, nil
}

// geluSlope returns dy * (P(x) + x*p(x)), P and p being the normal
// distribution and its density. Both are computed again from x: keeping them
// costs more memory traffic than it saves. HardSigmoid stands for the affine
// map (1+erf)/2, which never leaves [0, 1].
func (c *Context) geluSlope(dy, x string) string {
	z := c.Op("Mul", x, c.Scalar(math.Sqrt(0.5)))
	below := c.OpAttrs("HardSigmoid", map[string]onnx.Attr{"alpha": float32(0.5), "beta": float32(0.5)}, c.Op("Erf", z))
	// Dividing by exp(z*z), which may be infinite, saves a negation.
	density := c.Op("Div", c.Op("Mul", z, c.Scalar(1/math.Sqrt(math.Pi))), c.Op("Exp", c.Op("Mul", z, z)))
	return c.Op("Mul", dy, c.Op("Add", below, density))
}

// tanhGeluSlope is the slope of 0.5x(1+tanh(u)), u = k(x + 0.044715x^3),
// times dy. With s = (1+tanh(u))/2 = sigmoid(2u) it is s + x*s*(1-s)*2u'.
func (c *Context) tanhGeluSlope(dy, x string) string {
	const cubic = 0.044715
	k := 2 * math.Sqrt(2/math.Pi)
	square := c.Op("Mul", x, x)
	u := c.Op("Mul", x, c.Op("Add", c.Op("Mul", square, c.Scalar(k*cubic)), c.Scalar(k)))
	s := c.Op("Sigmoid", u)
	du := c.Op("Add", c.Op("Mul", square, c.Scalar(3*k*cubic)), c.Scalar(k))
	bend := c.Op("Mul", c.Op("Mul", x, du), c.Op("Sub", s, c.Op("Mul", s, s)))
	return c.Op("Mul", dy, c.Op("Add", s, bend))
}

// y = gelu(x + bias)
func biasGeluGrad(c *Context, dy []string) ([]string, error) {
	sum := c.Op("Add", c.In(0), c.In(1))
	return c.biasedGelu(c.geluSlope(dy[0], sum)), nil
}

// y = tanh-approximated gelu(x + bias), bias optional
func fastGeluGrad(c *Context, dy []string) ([]string, error) {
	x := c.In(0)
	if c.In(1) == "" {
		return []string{c.tanhGeluSlope(dy[0], x)}, nil
	}
	sum := c.Op("Add", x, c.In(1))
	return c.biasedGelu(c.tanhGeluSlope(dy[0], sum)), nil
}

func (c *Context) biasedGelu(g string) []string {
	dx := []string{g, ""}
	if c.Needs(1) {
		dx[1] = c.SumTo(g, c.Out(0), c.In(1))
	}
	return dx
}

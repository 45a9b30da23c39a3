package grad

func init() {
	Register("", "Softmax", softmaxGrad)
	Register("", "LogSoftmax", logSoftmaxGrad)
}

// dx = t - p*sum(t), t = p*dp
func softmaxGrad(c *Context, dy []string) ([]string, error) {
	p := c.Out(0)
	t := c.Op("Mul", p, dy[0])
	return []string{c.Op("Sub", t, c.Op("Mul", p, c.softmaxSum(t)))}, nil
}

// dx = dy - exp(y)*sum(dy)
func logSoftmaxGrad(c *Context, dy []string) ([]string, error) {
	p := c.Op("Exp", c.Out(0))
	return []string{c.Op("Sub", dy[0], c.Op("Mul", p, c.softmaxSum(dy[0])))}, nil
}

// softmaxSum sums over the softmax's axis and keeps it.
func (c *Context) softmaxSum(t string) string {
	return c.reduceSum(t, []int64{c.Node.AttrInt("axis", -1)}, true)
}

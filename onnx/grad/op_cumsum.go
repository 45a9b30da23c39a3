package grad

import "galley/onnx"

func init() { Register("", "CumSum", cumSumGrad) }

// An element counts in all sums after it, so the gradient is the sum of dy
// from the other end.
func cumSumGrad(c *Context, dy []string) ([]string, error) {
	attrs := map[string]onnx.Attr{
		"exclusive": c.Node.AttrInt("exclusive", 0),
		"reverse":   1 - c.Node.AttrInt("reverse", 0),
	}
	return []string{c.OpAttrs("CumSum", attrs, dy[0], c.In(1))}, nil
}

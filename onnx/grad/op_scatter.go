package grad

import (
	"galley/onnx"
)

func init() {
	Register("", "ScatterElements", scatterElementsGrad)
	Register("", "ScatterND", scatterNDGrad)
}

// What was overwritten has no gradient; what was written or added gets the
// gradient of its place. Indices that occur twice need reduction add.
func scatterElementsGrad(c *Context, dy []string) ([]string, error) {
	axis := map[string]onnx.Attr{"axis": c.Node.AttrInt("axis", 0)}
	return c.scatterGrad(dy[0],
		func(updates string) string { return c.OpAttrs("ScatterElements", axis, dy[0], c.In(1), updates) },
		func() string { return c.OpAttrs("GatherElements", axis, dy[0], c.In(1)) })
}

func scatterNDGrad(c *Context, dy []string) ([]string, error) {
	return c.scatterGrad(dy[0],
		func(updates string) string { return c.Op("ScatterND", dy[0], c.In(1), updates) },
		func() string { return c.Op("GatherND", dy[0], c.In(1)) })
}

func (c *Context) scatterGrad(dy string, scatter func(updates string) string, gather func() string) ([]string, error) {
	reduction := c.Node.AttrString("reduction", "none")
	if reduction != "none" && reduction != "add" {
		return nil, c.Errorf("reduction %q is not understood; only none and add are", reduction)
	}
	dx := make([]string, 3)
	if c.Needs(0) {
		dx[0] = dy
		if reduction == "none" {
			dx[0] = scatter(c.zeros(c.In(2)))
		}
	}
	if c.Needs(2) {
		dx[2] = gather()
	}
	return dx, nil
}

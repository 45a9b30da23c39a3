package onnx

// shapeRules are the operators that move elements or ask for their number.
var shapeRules = ruleSet{
	std("Shape"):        inferShape,
	std("Size"):         inferSize,
	std("Reshape"):      inferReshape,
	std("Flatten"):      inferFlatten,
	std("Squeeze"):      inferSqueeze,
	std("Unsqueeze"):    inferUnsqueeze,
	std("Transpose"):    inferTranspose,
	std("Expand"):       inferExpand,
	std("Tile"):         inferTile,
	std("DepthToSpace"): inferDepthToSpace,
	std("SpaceToDepth"): inferSpaceToDepth,
}

func inferShape(c *inferContext) error {
	s := c.inShape(0)
	if s == nil {
		c.set(0, Int64, unknownShape(1))
		return nil
	}
	rank := int64(len(s))
	start := clampIndex(c.AttrInt("start", 0), rank)
	end := clampIndex(c.AttrInt("end", rank), rank)
	out := make([]elem, 0, rank)
	for i := start; i < end; i++ {
		out = append(out, s[i].elem())
	}
	c.set(0, Int64, Fixed(int64(len(out))))
	c.setElems(0, out)
	return nil
}

// clampIndex maps a possibly negative index into 0..n.
func clampIndex(i, n int64) int64 {
	if i < 0 {
		i += n
	}
	return min(max(i, 0), n)
}

func inferSize(c *inferContext) error {
	c.set(0, Int64, Shape{})
	if s := c.inShape(0); s != nil {
		c.setElems(0, []elem{product(s).elem()})
	}
	return nil
}

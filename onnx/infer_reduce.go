package onnx

import (
	"fmt"
	"slices"
)

// reduceRules are the operators that take dimensions together.
var reduceRules = func() ruleSet {
	rules := onEach(inferReduce,
		std("ReduceL1"), std("ReduceL2"), std("ReduceLogSum"), std("ReduceLogSumExp"), std("ReduceMax"),
		std("ReduceMean"), std("ReduceMin"), std("ReduceProd"), std("ReduceSum"), std("ReduceSumSquare"))
	rules[std("ArgMax")] = inferArg
	rules[std("ArgMin")] = inferArg
	return rules
}()

func inferReduce(c *inferContext) error {
	s := c.inShape(0)
	keep := c.AttrInt("keepdims", 1) != 0
	axes, _, known := c.axesOf(1)
	if s == nil || !known {
		rank := int64(-1)
		if s != nil && keep {
			rank = int64(len(s))
		}
		c.set(0, c.inType(0), unknownShape(rank))
		return nil
	}
	reduced, err := normalAxes(axes, len(s))
	if err != nil {
		return fmt.Errorf("%w: input shape %v", err, s)
	}
	if len(axes) == 0 {
		if c.AttrInt("noop_with_empty_axes", 0) != 0 {
			c.set(0, c.inType(0), s)
			return nil
		}
		for i := range reduced {
			reduced[i] = true
		}
	}
	c.set(0, c.inType(0), dropAxes(s, reduced, keep))
	if c.Op == "ReduceProd" && len(s) == 1 {
		if es := c.inElems(0); es != nil {
			p := number(1)
			for _, e := range es {
				p = mulElems(p, e)
			}
			c.setElems(0, []elem{p})
		}
	}
	return nil
}

// dropAxes removes the marked dimensions, or leaves them with size 1.
func dropAxes(s Shape, drop []bool, keep bool) Shape {
	out := make(Shape, 0, len(s))
	for i, d := range s {
		switch {
		case !drop[i]:
			out = append(out, d)
		case keep:
			out = append(out, Dim{Size: 1})
		}
	}
	return slices.Clip(out)
}

func inferArg(c *inferContext) error {
	s := c.inShape(0)
	if s == nil {
		c.set(0, Int64, nil)
		return nil
	}
	axis, err := normalAxis(c.AttrInt("axis", 0), len(s))
	if err != nil {
		return fmt.Errorf("%w: input shape %v", err, s)
	}
	drop := make([]bool, len(s))
	drop[axis] = true
	c.set(0, Int64, dropAxes(s, drop, c.AttrInt("keepdims", 1) != 0))
	return nil
}

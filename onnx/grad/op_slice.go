package grad

import (
	"galley/onnx"
)

func init() {
	Register("", "Concat", concatGrad)
	Register("", "Split", splitGrad)
	Register("", "Slice", sliceGrad)
	Register("", "Pad", padGrad)
}

// Each input gets its part of dy back.
func concatGrad(c *Context, dy []string) ([]string, error) {
	axis, err := c.Axis(c.Out(0), c.Node.AttrInt("axis", 0))
	if err != nil {
		return nil, err
	}
	if len(c.Node.Inputs) == 1 {
		return dy[:1], nil
	}
	lengths := make([]int64, len(c.Node.Inputs))
	parts := make([]string, len(c.Node.Inputs))
	fixed := true
	for i, in := range c.Node.Inputs {
		if _, err := c.Axis(in, int64(axis)); err != nil {
			return nil, err
		}
		lengths[i] = c.Shape(in)[axis].Size
		fixed = fixed && lengths[i] >= 0
	}
	split := ""
	if fixed {
		split = c.Ints(lengths...)
	} else {
		for i, in := range c.Node.Inputs {
			parts[i] = c.dim(in, axis)
		}
		split = c.OpAttrs("Concat", map[string]onnx.Attr{"axis": int64(0)}, parts...)
	}
	return c.Builder.Node("", "Split", map[string]onnx.Attr{"axis": int64(axis)}, len(parts), dy[0], split), nil
}

func splitGrad(c *Context, dy []string) ([]string, error) {
	parts := make([]string, len(dy))
	for i, g := range dy {
		parts[i] = g
		if g != "" {
			continue
		}
		parts[i] = c.zeros(c.WantOut(i))
	}
	return []string{c.OpAttrs("Concat", map[string]onnx.Attr{"axis": c.Node.AttrInt("axis", 0)}, parts...)}, nil
}

// sliceGrad pads dy with zeros where the step is 1, and else writes it to the
// places that the slice took.
func sliceGrad(c *Context, dy []string) ([]string, error) {
	x := c.In(0)
	rank, err := c.Rank(x)
	if err != nil {
		return nil, err
	}
	starts, okStarts := c.ConstInts(c.In(1))
	axes, steps := sequence(0, len(starts)), []int64(nil)
	okAxes, okSteps := true, true
	if c.In(3) != "" {
		axes, okAxes = c.ConstInts(c.In(3))
	}
	if c.In(4) != "" {
		steps, okSteps = c.ConstInts(c.In(4))
	}
	for _, s := range steps {
		okSteps = okSteps && s == 1
	}
	if !okStarts || !okAxes || !okSteps || len(axes) != len(starts) {
		return []string{c.scatterSlice(dy[0])}, nil
	}
	if axes, err = c.Axes(x, axes); err != nil {
		return nil, err
	}
	before, after := make([]string, rank), make([]string, rank)
	for i := range rank {
		before[i], after[i] = c.Ints(0), c.Ints(0)
	}
	for i, axis := range axes {
		before[axis], after[axis] = c.slicePads(int(axis), starts[i])
	}
	pads := c.OpAttrs("Concat", map[string]onnx.Attr{"axis": int64(0)}, append(before, after...)...)
	return []string{c.Op("Pad", dy[0], pads)}, nil
}

// slicePads returns how many elements of axis the slice from start left out
// before and after, as int64 vectors of length 1.
func (c *Context) slicePads(axis int, start int64) (before, after string) {
	in, out := c.dim(c.In(0), axis), c.dim(c.Out(0), axis)
	if x, y := c.Shape(c.In(0)), c.Shape(c.Out(0)); len(x) == len(y) && x[axis].Size >= 0 && y[axis].Size >= 0 {
		n, m := x[axis].Size, y[axis].Size
		if start < 0 {
			start += n
		}
		start = min(max(start, 0), n)
		return c.Ints(start), c.Ints(n - m - start)
	}
	zero := c.Ints(0)
	if start < 0 {
		before = c.Op("Max", c.Op("Add", in, c.Ints(start)), zero)
	} else {
		before = c.Op("Min", c.Ints(start), in)
	}
	return before, c.Op("Sub", c.Op("Sub", in, out), before)
}

// scatterSlice is the gradient of any Slice: the same slice of the positions
// 0, 1, 2, ... says where its elements came from.
func (c *Context) scatterSlice(dy string) string {
	x := c.In(0)
	shape := c.ShapeOf(x)
	count := c.OpAttrs("ReduceProd", map[string]onnx.Attr{"keepdims": int64(0)}, shape)
	positions := c.Op("Range", c.Builder.Int(0), count, c.Builder.Int(1))
	grid := c.reshape(positions, shape)
	taken := c.Builder.Op("Slice", append([]string{grid}, c.Node.Inputs[1:]...)...)
	flat := c.Ints(-1)
	zeros := c.Op("Reshape", c.zeros(x), flat)
	filled := c.OpAttrs("ScatterElements", map[string]onnx.Attr{"axis": int64(0)},
		zeros, c.Op("Reshape", taken, flat), c.Op("Reshape", dy, flat))
	return c.ReshapeTo(filled, x)
}

// The padding is cut off again: negative pads remove.
func padGrad(c *Context, dy []string) ([]string, error) {
	if mode := c.Node.AttrString("mode", "constant"); mode != "constant" {
		return nil, c.Errorf("mode %q is not understood; only constant padding is", mode)
	}
	in := []string{dy[0], c.Op("Neg", c.In(1))}
	if c.In(3) != "" {
		in = append(in, "", c.In(3))
	}
	return []string{c.Op("Pad", in...)}, nil
}

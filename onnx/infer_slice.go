package onnx

import (
	"fmt"
	"math"
	"slices"
)

// sliceRules are the operators that pick, join and place parts.
var sliceRules = ruleSet{
	std("Slice"):           inferSlice,
	std("Concat"):          inferConcat,
	std("Split"):           inferSplit,
	std("Pad"):             inferPad,
	std("Gather"):          inferGather,
	std("GatherElements"):  inferGatherElements,
	std("GatherND"):        inferGatherND,
	std("ScatterElements"): inferUnary,
	std("ScatterND"):       inferUnary,
	std("OneHot"):          inferOneHot,
	std("NonZero"):         inferNonZero,
	std("TopK"):            inferTopK,
	std("Compress"):        inferCompress,
	std("ReverseSequence"): inferUnary,
}

// sliceBounds are the bounds of a Slice along one axis.
type sliceBounds struct{ start, end, step elem }

// bounds returns the bounds by axis, from inputs or (before opset 10) from
// attributes; false if it is not known which axes are cut.
func (c *inferContext) bounds(rank int) (map[int]sliceBounds, bool, error) {
	starts, ends := c.inElems(1), c.inElems(2)
	axes, axesKnown := c.inInts(3)
	steps := c.inElems(4)
	hasAxes := c.has(3)
	if v, ok := c.AttrInts("starts"); ok {
		starts = elems(v)
		v, _ = c.AttrInts("ends")
		ends = elems(v)
		axes, hasAxes = c.AttrInts("axes")
		axesKnown = hasAxes
	}
	if starts == nil || ends == nil || hasAxes && !axesKnown {
		// Which axes are cut may be known all the same, if the cuts are not.
		if !hasAxes || !axesKnown {
			return nil, false, nil
		}
		starts, ends = make([]elem, len(axes)), make([]elem, len(axes))
	}
	if !hasAxes {
		axes = make([]int64, len(starts))
		for i := range axes {
			axes[i] = int64(i)
		}
	}
	if steps == nil && c.has(4) {
		steps = make([]elem, len(axes))
	}
	if len(starts) != len(ends) || len(starts) != len(axes) || steps != nil && len(steps) != len(axes) {
		return nil, false, fmt.Errorf("starts, ends, axes and steps have different lengths")
	}
	if _, err := normalAxes(axes, rank); err != nil {
		return nil, false, err
	}
	out := make(map[int]sliceBounds, len(axes))
	for i, a := range axes {
		axis, _ := normalAxis(a, rank)
		b := sliceBounds{starts[i], ends[i], number(1)}
		if steps != nil {
			b.step = steps[i]
		}
		if b.step == number(0) {
			return nil, false, fmt.Errorf("step of axis %d is 0", axis)
		}
		out[axis] = b
	}
	return out, true, nil
}

func inferSlice(c *inferContext) error {
	s := c.inShape(0)
	if s == nil {
		c.set(0, c.inType(0), nil)
		return nil
	}
	cuts, ok, err := c.bounds(len(s))
	if err != nil {
		return fmt.Errorf("%w: input shape %v", err, s)
	}
	if !ok {
		c.set(0, c.inType(0), unknownShape(int64(len(s))))
		return nil
	}
	out := slices.Clone(s)
	for axis, b := range cuts {
		out[axis] = b.size(s[axis])
	}
	c.set(0, c.inType(0), out)
	if es := c.inElems(0); es != nil && len(s) == 1 {
		c.setElems(0, cuts[0].pick(es))
	}
	return nil
}

// span turns bounds along n elements into first index, count and step.
func (b sliceBounds) span(n int64) (first, count, step int64, ok bool) {
	if !b.start.known || !b.end.known || !b.step.known || b.step.value == 0 || b.step.value == math.MinInt64 {
		return 0, 0, 0, false
	}
	start, end, step := b.start.value, b.end.value, b.step.value
	if start < 0 {
		start += n
	}
	if end < 0 {
		end += n
	}
	if step > 0 {
		start, end = min(max(start, 0), n), min(max(end, 0), n)
		if end > start {
			count = (end-start-1)/step + 1
		}
		return start, count, step, true
	}
	start, end = min(max(start, 0), n-1), min(max(end, -1), n-1)
	if start > end {
		count = (start-end-1)/-step + 1
	}
	return start, count, step, true
}

// size is the size of a cut dimension.
func (b sliceBounds) size(d Dim) Dim {
	if d.known() {
		if _, count, _, ok := b.span(d.Size); ok {
			return Dim{Size: count}
		}
		if b.start == number(0) && b.step == number(1) && b.end.symbol != "" {
			return atMost(d.Size, b.end.symbol)
		}
		return unknownDim
	}
	if b.step != number(1) || !b.start.known {
		return unknownDim
	}
	toEnd := b.end.known && b.end.value >= math.MaxInt32 || b.end.same(d.elem())
	if b.start.value == 0 && toEnd {
		return d // all of it
	}
	return unknownDim
}

// pick cuts a vector's contents.
func (b sliceBounds) pick(es []elem) []elem {
	if b == (sliceBounds{}) {
		return es
	}
	first, count, step, ok := b.span(int64(len(es)))
	if !ok {
		return nil
	}
	out := make([]elem, 0, count)
	for i := range count {
		out = append(out, es[first+i*step])
	}
	return out
}

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

func inferConcat(c *inferContext) error {
	t := Undefined
	var shapes []Shape
	complete := true
	for i := range c.Inputs {
		if t == Undefined {
			t = c.inType(i)
		} else if u := c.inType(i); u != Undefined && u != t {
			return fmt.Errorf("inputs have types %v and %v", t, u)
		}
		if s := c.inShape(i); s != nil {
			shapes = append(shapes, s)
		} else {
			complete = false
		}
	}
	if len(shapes) == 0 {
		c.set(0, t, nil)
		return nil
	}
	out := slices.Clone(shapes[0])
	axis, err := normalAxis(c.AttrInt("axis", 0), len(out))
	if err != nil {
		return fmt.Errorf("%w: input shape %v", err, out)
	}
	for _, s := range shapes[1:] {
		if len(s) != len(out) {
			return fmt.Errorf("ranks of %v and %v differ", out, s)
		}
		for i := range s {
			if i == axis {
				out[i] = out[i].plus(s[i])
				continue
			}
			d, ok := mergeDims(out[i], s[i])
			if !ok {
				return fmt.Errorf("%v and %v differ beside axis %d", shapes[0], s, axis)
			}
			out[i] = d
		}
	}
	if !complete {
		out[axis] = unknownDim
	}
	c.set(0, t, out)
	var joined []elem
	for i := range c.Inputs {
		es := c.inElems(i)
		if es == nil {
			s := c.inShape(i)
			if len(s) != 1 || !s[0].known() || s[0].Size > maxElems {
				return nil
			}
			es = make([]elem, s[0].Size)
		}
		if joined = append(joined, es...); len(joined) > maxElems {
			return nil
		}
	}
	c.setElems(0, joined)
	return nil
}

func inferSplit(c *inferContext) error {
	s := c.inShape(0)
	t := c.inType(0)
	if s == nil {
		for i := range c.outs {
			c.set(i, t, nil)
		}
		return nil
	}
	axis, err := normalAxis(c.AttrInt("axis", 0), len(s))
	if err != nil {
		return fmt.Errorf("%w: input shape %v", err, s)
	}
	sizes, explicit := c.AttrInts("split") // before opset 13
	if !explicit && c.has(1) {
		if sizes, explicit = c.inInts(1); !explicit {
			sizes = nil
		}
	}
	n := int64(len(c.outs))
	if k := c.AttrInt("num_outputs", n); k != n {
		return fmt.Errorf("num_outputs is %d for %d outputs", k, n)
	}
	if explicit {
		if int64(len(sizes)) != n {
			return fmt.Errorf("%d sizes for %d outputs", len(sizes), n)
		}
		sum := int64(0)
		for _, k := range sizes {
			if k < 0 || sum > math.MaxInt64-k {
				return fmt.Errorf("sizes %s are out of range", listInts(sizes))
			}
			sum += k
		}
		if s[axis].known() && sum != s[axis].Size {
			return fmt.Errorf("sizes %s do not add up to axis %d of %v", listInts(sizes), axis, s)
		}
	}
	even := !explicit && !c.has(1) && s[axis].known()
	chunk := int64(0)
	if even {
		chunk = (s[axis].Size-1)/n + 1 // the last one may be smaller
		if s[axis].Size == 0 {
			chunk = 0
		}
	}
	left := s[axis].Size
	for i := range c.outs {
		out := slices.Clone(s)
		switch {
		case explicit:
			out[axis] = Dim{Size: sizes[i]}
		case even:
			out[axis] = Dim{Size: max(min(chunk, left), 0)}
			left -= chunk
		default:
			out[axis] = unknownDim
		}
		c.set(i, t, out)
	}
	return nil
}

func inferPad(c *inferContext) error {
	s := c.inShape(0)
	if s == nil {
		c.set(0, c.inType(0), nil)
		return nil
	}
	pads, ok := c.AttrInts("pads") // before opset 11
	if !ok {
		pads, ok = c.inInts(1)
	}
	axes := make([]int64, len(s))
	for i := range axes {
		axes[i] = int64(i)
	}
	if c.has(3) {
		given, known := c.inInts(3)
		axes, ok = given, ok && known
	}
	if !ok {
		c.set(0, c.inType(0), unknownShape(int64(len(s))))
		return nil
	}
	if _, err := normalAxes(axes, len(s)); err != nil {
		return fmt.Errorf("%w: input shape %v", err, s)
	}
	if len(pads) != 2*len(axes) {
		return fmt.Errorf("%d pads for %d axes of %v", len(pads), len(axes), s)
	}
	out := slices.Clone(s)
	for i, a := range axes {
		axis, _ := normalAxis(a, len(s))
		by := addElems(number(pads[i]), number(pads[i+len(axes)]))
		out[axis] = addElems(s[axis].elem(), by).dim()
	}
	c.set(0, c.inType(0), out)
	return nil
}

func inferGather(c *inferContext) error {
	data, index := c.inShape(0), c.inShape(1)
	if data == nil || index == nil {
		c.set(0, c.inType(0), nil)
		return nil
	}
	axis, err := normalAxis(c.AttrInt("axis", 0), len(data))
	if err != nil {
		return fmt.Errorf("%w: input shape %v", err, data)
	}
	c.set(0, c.inType(0), joinShapes(data[:axis], index, data[axis+1:]))
	es := c.inElems(0)
	picks, ok := c.inInts(1)
	if es == nil || !ok || len(data) != 1 {
		return nil
	}
	out := make([]elem, len(picks))
	for i, p := range picks {
		j, err := normalAxis(p, len(es))
		if err != nil {
			return fmt.Errorf("index %d is out of range for %d elements", p, len(es))
		}
		out[i] = es[j]
	}
	c.setElems(0, out)
	return nil
}

func inferGatherElements(c *inferContext) error {
	if data, index := c.inShape(0), c.inShape(1); data != nil && index != nil && len(data) != len(index) {
		return fmt.Errorf("ranks of %v and indices %v differ", data, index)
	}
	c.set(0, c.inType(0), c.inShape(1))
	return nil
}

func inferGatherND(c *inferContext) error {
	data, index := c.inShape(0), c.inShape(1)
	batch := c.AttrInt("batch_dims", 0)
	if data == nil || len(index) == 0 || !index[len(index)-1].known() {
		c.set(0, c.inType(0), nil)
		return nil
	}
	last := index[len(index)-1].Size
	if batch < 0 || batch >= int64(len(index)) || last > int64(len(data)) || batch+last > int64(len(data)) {
		return fmt.Errorf("indices %v with %d batch dimensions do not fit %v", index, batch, data)
	}
	c.set(0, c.inType(0), joinShapes(index[:len(index)-1], data[batch+last:]))
	return nil
}

func inferOneHot(c *inferContext) error {
	s := c.inShape(0)
	if s == nil {
		c.set(0, c.inType(2), nil)
		return nil
	}
	axis, err := normalAxis(c.AttrInt("axis", -1), len(s)+1)
	if err != nil {
		return fmt.Errorf("%w: indices %v", err, s)
	}
	depth := unknownDim
	if es := c.inElems(1); len(es) == 1 {
		depth = es[0].dim()
	}
	c.set(0, c.inType(2), slices.Insert(slices.Clone(s), axis, depth))
	return nil
}

func inferNonZero(c *inferContext) error {
	rank := unknownDim
	if s := c.inShape(0); s != nil {
		rank = Dim{Size: int64(max(len(s), 1))}
	}
	c.set(0, Int64, Shape{rank, unknownDim})
	return nil
}

func inferTopK(c *inferContext) error {
	s := c.inShape(0)
	if s == nil {
		c.set(0, c.inType(0), nil)
		c.set(1, Int64, nil)
		return nil
	}
	axis, err := normalAxis(c.AttrInt("axis", -1), len(s))
	if err != nil {
		return fmt.Errorf("%w: input shape %v", err, s)
	}
	out := slices.Clone(s)
	out[axis] = unknownDim
	if es := c.inElems(1); len(es) == 1 {
		out[axis] = es[0].dim()
		if es[0].known && s[axis].known() && es[0].value > s[axis].Size {
			return fmt.Errorf("k is %d for axis %d of %v", es[0].value, axis, s)
		}
	}
	c.set(0, c.inType(0), out)
	c.set(1, Int64, out)
	return nil
}

func inferCompress(c *inferContext) error {
	if _, ok := c.Attrs["axis"]; !ok {
		c.set(0, c.inType(0), unknownShape(1))
		return nil
	}
	s := c.inShape(0)
	if s == nil {
		c.set(0, c.inType(0), nil)
		return nil
	}
	axis, err := normalAxis(c.AttrInt("axis", 0), len(s))
	if err != nil {
		return fmt.Errorf("%w: input shape %v", err, s)
	}
	out := slices.Clone(s)
	out[axis] = unknownDim
	c.set(0, c.inType(0), out)
	return nil
}

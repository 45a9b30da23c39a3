package onnx

import (
	"fmt"
	"slices"
)

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

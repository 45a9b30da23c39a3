package onnx

import (
	"fmt"
	"slices"
)

func inferFlatten(c *inferContext) error {
	s := c.inShape(0)
	if s == nil {
		c.set(0, c.inType(0), unknownShape(2))
		return nil
	}
	axis := c.AttrInt("axis", 1)
	if axis < 0 {
		axis += int64(len(s))
	}
	if axis < 0 || axis > int64(len(s)) {
		return fmt.Errorf("axis %d is out of range for %v", axis, s)
	}
	c.set(0, c.inType(0), Shape{product(s[:axis]), product(s[axis:])})
	return nil
}

func inferSqueeze(c *inferContext) error {
	s := c.inShape(0)
	axes, present, known := c.axesOf(1)
	if s == nil || !known {
		c.set(0, c.inType(0), nil)
		return nil
	}
	drop := make([]bool, len(s))
	if present {
		var err error
		if drop, err = normalAxes(axes, len(s)); err != nil {
			return fmt.Errorf("%w: input shape %v", err, s)
		}
	}
	out := Shape{}
	for i, d := range s {
		switch {
		case drop[i] && d.known() && d.Size != 1:
			return fmt.Errorf("dimension %d of %v is not 1", i, s)
		case drop[i], !present && d.Size == 1:
		case !present && !d.known():
			c.set(0, c.inType(0), nil) // it may be 1
			return nil
		default:
			out = append(out, d)
		}
	}
	c.set(0, c.inType(0), out)
	c.setElems(0, c.inElems(0))
	return nil
}

func inferUnsqueeze(c *inferContext) error {
	s := c.inShape(0)
	axes, _, known := c.axesOf(1)
	if s == nil || !known || len(axes) > maxRank {
		c.set(0, c.inType(0), nil)
		return nil
	}
	insert, err := normalAxes(axes, len(s)+len(axes))
	if err != nil {
		return fmt.Errorf("%w: input shape %v", err, s)
	}
	out := make(Shape, 0, len(insert))
	rest := s
	for _, fresh := range insert {
		if fresh {
			out = append(out, Dim{Size: 1})
		} else {
			out, rest = append(out, rest[0]), rest[1:]
		}
	}
	c.set(0, c.inType(0), out)
	c.setElems(0, c.inElems(0))
	return nil
}

func inferTranspose(c *inferContext) error {
	s := c.inShape(0)
	if s == nil {
		if perm, ok := c.AttrInts("perm"); ok {
			c.set(0, c.inType(0), unknownShape(int64(len(perm))))
			return nil
		}
		c.set(0, c.inType(0), nil)
		return nil
	}
	perm, ok := c.AttrInts("perm")
	if !ok {
		out := slices.Clone(s)
		slices.Reverse(out)
		c.set(0, c.inType(0), out)
		return nil
	}
	if len(perm) != len(s) {
		return fmt.Errorf("permutation %s does not fit shape %v", listInts(perm), s)
	}
	if _, err := normalAxes(perm, len(s)); err != nil {
		return fmt.Errorf("permutation %s: %w", listInts(perm), err)
	}
	out := make(Shape, len(s))
	for i, p := range perm {
		a, _ := normalAxis(p, len(s))
		out[i] = s[a]
	}
	c.set(0, c.inType(0), out)
	if len(out) <= 1 {
		c.setElems(0, c.inElems(0))
	}
	return nil
}

func inferExpand(c *inferContext) error {
	s := c.inShape(0)
	target, rank := c.targetShape(1)
	if s == nil || target == nil {
		if s != nil && rank >= 0 {
			rank = max(rank, int64(len(s)))
		} else {
			rank = -1
		}
		c.set(0, c.inType(0), unknownShape(rank))
		return nil
	}
	to, err := dims(target)
	if err != nil {
		return err
	}
	out, err := broadcast(s, to)
	if err != nil {
		return err
	}
	c.set(0, c.inType(0), out)
	if es := c.inElems(0); len(es) == 1 && len(out) == 1 && out[0].known() && out[0].Size <= maxElems {
		c.setElems(0, slices.Repeat(es, int(out[0].Size)))
	}
	return nil
}

// dims reads contents as a shape; negative sizes are an error.
func dims(es []elem) (Shape, error) {
	s := make(Shape, len(es))
	for i, e := range es {
		if e.known && e.value < 0 {
			return nil, fmt.Errorf("shape %s has the negative size %d", listElems(es), e.value)
		}
		s[i] = e.dim()
	}
	return s, nil
}

func inferTile(c *inferContext) error {
	s := c.inShape(0)
	if s == nil {
		c.set(0, c.inType(0), nil)
		return nil
	}
	repeats, _ := c.targetShape(1)
	if repeats == nil {
		c.set(0, c.inType(0), unknownShape(int64(len(s))))
		return nil
	}
	if len(repeats) != len(s) {
		return fmt.Errorf("repeats %s do not fit shape %v", listElems(repeats), s)
	}
	times, err := dims(repeats)
	if err != nil {
		return err
	}
	out := make(Shape, len(s))
	for i := range s {
		out[i] = s[i].times(times[i])
	}
	c.set(0, c.inType(0), out)
	return nil
}

func inferDepthToSpace(c *inferContext) error {
	s, b := c.inShape(0), c.AttrInt("blocksize", 0)
	if len(s) != 4 || b <= 0 || b > 1<<20 {
		c.set(0, c.inType(0), unknownShape(4))
		return nil
	}
	size := Dim{Size: b}
	c.set(0, c.inType(0), Shape{s[0], divideDim(s[1], b*b), s[2].times(size), s[3].times(size)})
	return nil
}

func inferSpaceToDepth(c *inferContext) error {
	s, b := c.inShape(0), c.AttrInt("blocksize", 0)
	if len(s) != 4 || b <= 0 || b > 1<<20 {
		c.set(0, c.inType(0), unknownShape(4))
		return nil
	}
	c.set(0, c.inType(0), Shape{s[0], s[1].times(Dim{Size: b * b}), divideDim(s[2], b), divideDim(s[3], b)})
	return nil
}

// divideDim divides a fixed size.
func divideDim(d Dim, by int64) Dim {
	if !d.known() {
		return unknownDim
	}
	return Dim{Size: d.Size / by}
}

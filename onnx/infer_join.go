package onnx

import (
	"fmt"
	"math"
	"slices"
)

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

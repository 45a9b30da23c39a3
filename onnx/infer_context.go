package onnx

import "fmt"

// An inferContext is what a rule sees: the node, what is known of its inputs,
// and where to put what it finds out about its outputs.
type inferContext struct {
	*Node
	in    *inference
	scope *Types
	opset int64
	depth int
	outs  []*inferred
}

// input returns what is known of input i; nil if it is omitted.
func (c *inferContext) input(i int) *inferred {
	if !c.has(i) {
		return nil
	}
	return c.scope.find(c.Node.Input(i))
}

// has reports whether input i is given.
func (c *inferContext) has(i int) bool { return c.Node.Input(i) != "" }

// inType returns the element type of input i.
func (c *inferContext) inType(i int) DataType {
	if v := c.input(i); v != nil {
		return v.Type
	}
	return Undefined
}

// inShape returns the shape of input i, nil if it is unknown.
func (c *inferContext) inShape(i int) Shape {
	if v := c.input(i); v != nil {
		return v.Shape
	}
	return nil
}

// inElems returns the followed contents of input i, nil if there are none.
func (c *inferContext) inElems(i int) []elem {
	if v := c.input(i); v != nil {
		return v.contents()
	}
	return nil
}

// inInts returns the contents of input i if all are known numbers.
func (c *inferContext) inInts(i int) ([]int64, bool) {
	es := c.inElems(i)
	if es == nil {
		return nil, false
	}
	out := make([]int64, len(es))
	for j, e := range es {
		if !e.known {
			return nil, false
		}
		out[j] = e.value
	}
	return out, true
}

// set sets the type and shape of output i; nothing if it is omitted.
func (c *inferContext) set(i int, t DataType, s Shape) {
	if i < len(c.outs) {
		c.outs[i].Type, c.outs[i].Shape = t, s
	}
}

// setElems sets the followed contents of output i, if they fit its shape.
func (c *inferContext) setElems(i int, es []elem) {
	if i >= len(c.outs) || es == nil || len(es) > maxElems {
		return
	}
	out := c.outs[i]
	fits := follows(out.Type) && (len(out.Shape) == 0 && out.Shape != nil && len(es) == 1 ||
		len(out.Shape) == 1 && out.Shape[0].Size == int64(len(es)))
	if fits {
		out.elems = es
	}
}

// axesOf returns the axes given by input i or, before opset 13, by attribute
// "axes"; present tells whether any are given, known whether they are known.
func (c *inferContext) axesOf(i int) (axes []int64, present, known bool) {
	if axes, ok := c.AttrInts("axes"); ok {
		return axes, true, true
	}
	if !c.has(i) {
		return nil, false, true
	}
	axes, known = c.inInts(i)
	return axes, true, known
}

// normalAxis maps a possibly negative axis into 0..rank-1.
func normalAxis(axis int64, rank int) (int, error) {
	a := axis
	if a < 0 {
		a += int64(rank)
	}
	if a < 0 || a >= int64(rank) {
		return 0, fmt.Errorf("axis %d is out of range for rank %d", axis, rank)
	}
	return int(a), nil
}

// normalAxes maps axes into a set of 0..rank-1; a repeated one is an error.
func normalAxes(axes []int64, rank int) ([]bool, error) {
	set := make([]bool, rank)
	for _, axis := range axes {
		a, err := normalAxis(axis, rank)
		if err != nil {
			return nil, err
		}
		if set[a] {
			return nil, fmt.Errorf("axis %d is given twice", axis)
		}
		set[a] = true
	}
	return set, nil
}

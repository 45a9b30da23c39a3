package onnx

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// constantRules are the operators that make values.
var constantRules = ruleSet{
	std("Constant"):          inferConstant,
	std("ConstantOfShape"):   inferConstantOfShape,
	std("Range"):             inferRange,
	std("EyeLike"):           inferLike,
	std("RandomNormalLike"):  inferLike,
	std("RandomUniformLike"): inferLike,
	std("Bernoulli"):         inferLike,
	std("RandomNormal"):      inferRandom,
	std("RandomUniform"):     inferRandom,
}

func inferConstant(c *inferContext) error {
	t, err := c.constantTensor()
	if err != nil {
		return err
	}
	if len(c.outs) > 0 && t != nil {
		c.outs[0] = constant(c.Outputs[0], t)
	}
	return nil
}

// constantTensor returns the tensor that a Constant's attributes give in one
// of their forms; nil for a form that is not followed.
func (c *inferContext) constantTensor() (*Tensor, error) {
	for _, name := range []string{"value", "value_float", "value_floats", "value_int", "value_ints", "value_string", "value_strings"} {
		switch v := c.Attrs[name].(type) {
		case *Tensor:
			return v, nil
		case float32:
			return NewFloat(name, []float32{v}), nil
		case []float32:
			return NewFloat(name, v, int64(len(v))), nil
		case int64:
			return NewInt64(name, []int64{v}), nil
		case []int64:
			return NewInt64(name, v, int64(len(v))), nil
		case string:
			return &Tensor{Name: name, Type: String, Dims: []int64{}, Strings: [][]byte{[]byte(v)}}, nil
		case []string:
			t := &Tensor{Name: name, Type: String, Dims: []int64{int64(len(v))}}
			for _, s := range v {
				t.Strings = append(t.Strings, []byte(s))
			}
			return t, nil
		case AttrRef:
			return nil, nil
		}
	}
	if len(c.Attrs) > 0 {
		return nil, nil // a sparse value
	}
	return nil, fmt.Errorf("has no value")
}

func inferConstantOfShape(c *inferContext) error {
	t := Float
	fill := elem{}
	if v, ok := c.Attrs["value"].(*Tensor); ok {
		t = v.Type
		if n, ok := v.elements(); !ok || n != 1 {
			return fmt.Errorf("attribute value has dimensions %v instead of one element", v.Dims)
		}
		if es := tensorElems(v); len(es) == 1 {
			fill = es[0]
		}
	}
	target, rank := c.targetShape(0)
	if target == nil {
		c.set(0, t, unknownShape(rank))
		return nil
	}
	s, err := dims(target)
	if err != nil {
		return err
	}
	c.set(0, t, s)
	if len(s) == 1 && s[0].known() && s[0].Size <= maxElems {
		c.setElems(0, slices.Repeat([]elem{fill}, int(s[0].Size)))
	}
	return nil
}

func inferRange(c *inferContext) error {
	t := c.inType(0)
	start, limit, delta := c.inElems(0), c.inElems(1), c.inElems(2)
	c.set(0, t, unknownShape(1))
	if len(start) != 1 || len(limit) != 1 || len(delta) != 1 {
		c.rangeOfFloats()
		return nil
	}
	if delta[0] == number(0) {
		return fmt.Errorf("delta is 0")
	}
	if start[0] == number(0) && delta[0] == number(1) && limit[0].symbol != "" {
		c.set(0, t, Shape{limit[0].dim()})
		return nil
	}
	if !start[0].known || !limit[0].known || !delta[0].known {
		return nil
	}
	first, last, step := start[0].value, limit[0].value, delta[0].value
	length := math.Max(math.Ceil((float64(last)-float64(first))/float64(step)), 0)
	if length > math.MaxInt32 { // before it is an integer: it may be none that fits
		return fmt.Errorf("from %d to %d by %d is too long", first, last, step)
	}
	count := int64(length)
	c.set(0, t, Fixed(count))
	if count <= maxElems {
		out := make([]elem, count)
		for i := range out {
			out[i] = number(first + int64(i)*step)
		}
		c.setElems(0, out)
	}
	return nil
}

// rangeOfFloats finds the length of a Range over constant floats.
func (c *inferContext) rangeOfFloats() {
	var v [3]float64
	for i := range v {
		in := c.input(i)
		if in == nil || in.from == nil {
			return
		}
		f, ok := in.from.scalarFloat()
		if !ok {
			return
		}
		v[i] = f
	}
	n := math.Max(math.Ceil((v[1]-v[0])/v[2]), 0)
	if n <= math.MaxInt32 { // false for NaN
		c.set(0, c.inType(0), Fixed(int64(n)))
	}
}

// scalarFloat is the one element of a Float or Double tensor.
func (t *Tensor) scalarFloat() (float64, bool) {
	n, ok := t.elements()
	if !ok || n != 1 {
		return 0, false
	}
	switch {
	case t.Type == Float && len(t.Data) == 4:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(t.Data))), true
	case t.Type == Double && len(t.Data) == 8:
		return math.Float64frombits(binary.LittleEndian.Uint64(t.Data)), true
	}
	return 0, false
}

// inferLike gives the shape of input 0 and the type of attribute "dtype", if
// it is given.
func inferLike(c *inferContext) error {
	t := c.inType(0)
	if d := DataType(c.AttrInt("dtype", 0)); d != Undefined {
		t = d
	}
	c.set(0, t, c.inShape(0))
	return nil
}

func inferRandom(c *inferContext) error {
	ints, ok := c.AttrInts("shape")
	t := DataType(c.AttrInt("dtype", int64(Float)))
	if !ok {
		c.set(0, t, nil)
		return nil
	}
	s, err := dims(elems(ints))
	if err != nil {
		return err
	}
	c.set(0, t, s)
	return nil
}

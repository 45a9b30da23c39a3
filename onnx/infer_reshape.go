package onnx

import (
	"fmt"
	"slices"
)

// targetShape is the shape that input i holds as a vector of sizes: its rank
// may be known where its sizes are not.
func (c *inferContext) targetShape(i int) (es []elem, rank int64) {
	if es = c.inElems(i); es != nil {
		return es, int64(len(es))
	}
	if s := c.inShape(i); len(s) == 1 && s[0].known() {
		return nil, s[0].Size
	}
	return nil, -1
}

func inferReshape(c *inferContext) error {
	in := c.inShape(0)
	target, rank := c.targetShape(1)
	if ints, ok := c.AttrInts("shape"); ok && !c.has(1) { // before opset 5
		target, rank = elems(ints), int64(len(ints))
	}
	if target == nil {
		c.set(0, c.inType(0), unknownShape(rank))
		return nil
	}
	out := make(Shape, len(target))
	open := -1     // where the size is to be found
	vague := false // another size is unknown
	for i, e := range target {
		switch {
		case e.known && e.value == 0 && c.AttrInt("allowzero", 0) == 0:
			out[i] = unknownDim
			if in != nil {
				if i >= len(in) {
					return fmt.Errorf("target %s copies dimension %d of shape %v", listElems(target), i, in)
				}
				out[i] = in[i]
			}
		case e == number(-1):
			if open >= 0 {
				return fmt.Errorf("target %s has -1 twice", listElems(target))
			}
			open = i
		case e.known && e.value < 0:
			return fmt.Errorf("target %s has the negative size %d", listElems(target), e.value)
		default:
			out[i] = e.dim()
			vague = vague || !e.known && e.symbol == "" // may be -1 as well
		}
	}
	if open >= 0 {
		out[open] = unknownDim
		if in != nil {
			d, err := quotient(in, out, open)
			if err != nil {
				return fmt.Errorf("%v cannot be reshaped to %s", in, listElems(target))
			}
			out[open] = d
		}
	} else if in.Known() && out.Known() {
		if product(in) != product(out) {
			return fmt.Errorf("%v cannot be reshaped to %s", in, listElems(target))
		}
	} else if !vague && in != nil {
		solveOne(in, out)
	}
	c.set(0, c.inType(0), out)
	if len(out) <= 1 {
		c.setElems(0, c.inElems(0))
	}
	return nil
}

// quotient is the size that out needs at position open to hold as many
// elements as in: symbols that are on both sides cancel.
func quotient(in, out Shape, open int) (Dim, error) {
	rest := slices.Delete(slices.Clone(out), open, open+1)
	num, den, left, ok := cancel(in, rest)
	switch {
	case !ok:
		return unknownDim, nil
	case den == 0:
		return unknownDim, nil
	case len(left) == 0:
		if num%den != 0 {
			return unknownDim, fmt.Errorf("%d is not divisible by %d", num, den)
		}
		return Dim{Size: num / den}, nil
	case len(left) == 1 && num == den:
		return left[0], nil
	}
	return unknownDim, nil
}

// solveOne fills in the one unknown dimension of out, if there is one.
func solveOne(in, out Shape) {
	open := -1
	for i, d := range out {
		if d == unknownDim {
			if open >= 0 {
				return
			}
			open = i
		}
	}
	if open >= 0 {
		if d, err := quotient(in, out, open); err == nil {
			out[open] = d
		}
	}
}

// cancel divides the product of a by that of b: the fixed parts, and the
// symbols of a that remain. It fails if b has a symbol that a lacks, or an
// unknown size is involved.
func cancel(a, b Shape) (num, den int64, left []Dim, ok bool) {
	num, den = 1, 1
	for _, d := range a {
		switch {
		case d.known():
			if num, ok = mulOverflow(num, d.Size); !ok {
				return 0, 0, nil, false
			}
		case d.Symbol == "":
			return 0, 0, nil, false
		default:
			left = append(left, d)
		}
	}
	for _, d := range b {
		if d.known() {
			if den, ok = mulOverflow(den, d.Size); !ok {
				return 0, 0, nil, false
			}
			continue
		}
		i := slices.Index(left, d)
		if d.Symbol == "" || i < 0 {
			return 0, 0, nil, false
		}
		left = slices.Delete(left, i, i+1)
	}
	return num, den, left, true
}

// elems makes known contents.
func elems(ints []int64) []elem {
	out := make([]elem, len(ints))
	for i, v := range ints {
		out[i] = number(v)
	}
	return out
}

// maxListed bounds how many numbers a message lists.
const maxListed = 16

func listInts(ints []int64) string {
	return listElems(elems(ints[:min(len(ints), maxListed+1)]))
}

func listElems(es []elem) string {
	out := "["
	for i, e := range es {
		if i > 0 {
			out += ","
		}
		if i == maxListed {
			out += "..."
			break
		}
		switch {
		case e.known:
			out += fmt.Sprint(e.value)
		case e.symbol != "":
			out += printable(e.symbol)
		default:
			out += "?"
		}
	}
	return out + "]"
}

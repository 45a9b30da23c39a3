package onnx

import (
	"fmt"
	"slices"
)

// shapeRules are the operators that move elements or ask for their number.
var shapeRules = ruleSet{
	std("Shape"):        inferShape,
	std("Size"):         inferSize,
	std("Reshape"):      inferReshape,
	std("Flatten"):      inferFlatten,
	std("Squeeze"):      inferSqueeze,
	std("Unsqueeze"):    inferUnsqueeze,
	std("Transpose"):    inferTranspose,
	std("Expand"):       inferExpand,
	std("Tile"):         inferTile,
	std("DepthToSpace"): inferDepthToSpace,
	std("SpaceToDepth"): inferSpaceToDepth,
}

func inferShape(c *inferContext) error {
	s := c.inShape(0)
	if s == nil {
		c.set(0, Int64, unknownShape(1))
		return nil
	}
	rank := int64(len(s))
	start := clampIndex(c.AttrInt("start", 0), rank)
	end := clampIndex(c.AttrInt("end", rank), rank)
	out := make([]elem, 0, rank)
	for i := start; i < end; i++ {
		out = append(out, s[i].elem())
	}
	c.set(0, Int64, Fixed(int64(len(out))))
	c.setElems(0, out)
	return nil
}

// clampIndex maps a possibly negative index into 0..n.
func clampIndex(i, n int64) int64 {
	if i < 0 {
		i += n
	}
	return min(max(i, 0), n)
}

func inferSize(c *inferContext) error {
	c.set(0, Int64, Shape{})
	if s := c.inShape(0); s != nil {
		c.setElems(0, []elem{product(s).elem()})
	}
	return nil
}

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

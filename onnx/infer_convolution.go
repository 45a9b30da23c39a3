package onnx

import (
	"fmt"
	"slices"
)

// convolutionRules are the operators that slide a window, or take all of a
// channel.
var convolutionRules = ruleSet{
	std("Conv"):              inferConv,
	std("ConvInteger"):       inferConv,
	std("ConvTranspose"):     inferConvTranspose,
	std("MaxPool"):           inferPool,
	std("AveragePool"):       inferPool,
	std("LpPool"):            inferPool,
	std("GlobalAveragePool"): inferGlobalPool,
	std("GlobalMaxPool"):     inferGlobalPool,
	std("GlobalLpPool"):      inferGlobalPool,
	std("Resize"):            inferResize,
	std("Upsample"):          inferResize,
}

// A window is the geometry of a convolution or pool, by spatial axis.
type window struct {
	kernel, strides, dilations []int64
	pads                       []int64 // begins, then ends
	autoPad                    string
	ceil                       bool
}

// windowOf reads the geometry for n spatial axes. kernel stands in for the
// attribute kernel_shape where that is optional.
func (c *inferContext) windowOf(n int, kernel []int64) (window, error) {
	w := window{
		kernel: kernel, autoPad: c.AttrString("auto_pad", "NOTSET"),
		ceil: c.AttrInt("ceil_mode", 0) != 0,
	}
	if k, ok := c.AttrInts("kernel_shape"); ok {
		w.kernel = k
	}
	read := func(name string, n int, def int64) ([]int64, error) {
		v, ok := c.AttrInts(name)
		if !ok {
			return slices.Repeat([]int64{def}, n), nil
		}
		if len(v) != n {
			return nil, fmt.Errorf("attribute %s has %d values for %d", name, len(v), n)
		}
		for _, x := range v {
			if x < def || x > 1<<31 {
				return nil, fmt.Errorf("attribute %s has the value %d", name, x)
			}
		}
		return v, nil
	}
	var err error
	if w.strides, err = read("strides", n, 1); err != nil {
		return w, err
	}
	if w.dilations, err = read("dilations", n, 1); err != nil {
		return w, err
	}
	if w.pads, err = read("pads", 2*n, 0); err != nil {
		return w, err
	}
	if w.kernel != nil && len(w.kernel) != n {
		return w, fmt.Errorf("kernel %s does not fit %d spatial axes", listInts(w.kernel), n)
	}
	for _, k := range w.kernel {
		if k < 1 || k > 1<<31 {
			return w, fmt.Errorf("kernel %s has the size %d", listInts(w.kernel), k)
		}
	}
	return w, nil
}

// size is how many windows fit into a spatial dimension.
func (w window) size(axis int, d Dim) (Dim, error) {
	if !d.known() || w.kernel == nil {
		return unknownDim, nil
	}
	stride := w.strides[axis]
	switch w.autoPad {
	case "SAME_UPPER", "SAME_LOWER":
		return Dim{Size: ceilDiv(d.Size, stride)}, nil
	}
	reach := (w.kernel[axis]-1)*w.dilations[axis] + 1
	padded := d.Size
	if w.autoPad != "VALID" {
		padded += w.pads[axis] + w.pads[axis+len(w.kernel)]
	}
	if padded < reach {
		return unknownDim, fmt.Errorf("window of %d does not fit %d elements of spatial axis %d", reach, padded, axis)
	}
	if w.ceil {
		n := ceilDiv(padded-reach, stride) + 1
		// A window must begin inside the input or its leading pad.
		if w.autoPad != "VALID" && (n-1)*stride >= d.Size+w.pads[axis] {
			n--
		}
		return Dim{Size: n}, nil
	}
	return Dim{Size: (padded-reach)/stride + 1}, nil
}

// ceilDiv divides sizes, rounding up.
func ceilDiv(a, b int64) int64 {
	if a%b == 0 {
		return a / b
	}
	return a/b + 1
}

func inferConv(c *inferContext) error {
	x, w := c.inShape(0), c.inShape(1)
	t := c.inType(0)
	if c.Op == "ConvInteger" {
		t = Int32
	}
	if x == nil {
		rank := int64(-1)
		if w != nil {
			rank = int64(len(w))
		}
		c.set(0, t, unknownShape(rank))
		return nil
	}
	if len(x) < 3 || w != nil && len(w) != len(x) {
		return fmt.Errorf("input %v and weights %v do not fit", x, w)
	}
	var kernel []int64
	channels := unknownDim
	if w != nil {
		channels = w[0]
		kernel = fixedSizes(w[2:])
		groups := c.AttrInt("group", 1)
		if groups < 1 {
			return fmt.Errorf("attribute group is %d", groups)
		}
		if _, ok := mergeDims(x[1], w[1].times(Dim{Size: groups})); !ok {
			return fmt.Errorf("input %v has not the channels of weights %v in %d groups", x, w, groups)
		}
	}
	win, err := c.windowOf(len(x)-2, kernel)
	if err != nil {
		return err
	}
	out := Shape{x[0], channels}
	for i, d := range x[2:] {
		d, err := win.size(i, d)
		if err != nil {
			return err
		}
		out = append(out, d)
	}
	c.set(0, t, out)
	return nil
}

// fixedSizes returns the sizes of known dimensions, otherwise nil.
func fixedSizes(s Shape) []int64 {
	if !s.Known() {
		return nil
	}
	out := make([]int64, len(s))
	for i, d := range s {
		out[i] = d.Size
	}
	return out
}

func inferConvTranspose(c *inferContext) error {
	x, w := c.inShape(0), c.inShape(1)
	if x == nil || w == nil {
		c.set(0, c.inType(0), nil)
		return nil
	}
	if len(x) < 3 || len(w) != len(x) {
		return fmt.Errorf("input %v and weights %v do not fit", x, w)
	}
	n := len(x) - 2
	win, err := c.windowOf(n, fixedSizes(w[2:]))
	if err != nil {
		return err
	}
	out := append(Shape{x[0], w[1].times(Dim{Size: c.AttrInt("group", 1)})}, unknownShape(int64(n))...)
	explicit, hasExplicit := c.AttrInts("output_shape")
	extra, hasExtra := c.AttrInts("output_padding")
	if hasExplicit && len(explicit) != n || hasExtra && len(extra) != n {
		return fmt.Errorf("output_shape %s or output_padding %s does not fit %d spatial axes", listInts(explicit), listInts(extra), n)
	}
	for i, d := range x[2:] {
		switch {
		case hasExplicit && explicit[i] >= 0:
			out[2+i] = Dim{Size: explicit[i]}
		case !d.known() || win.kernel == nil || d.Size > 1<<31:
		case win.autoPad == "SAME_UPPER" || win.autoPad == "SAME_LOWER":
			out[2+i] = Dim{Size: d.Size * win.strides[i]}
		default:
			size := (d.Size-1)*win.strides[i] + (win.kernel[i]-1)*win.dilations[i] + 1 - win.pads[i] - win.pads[i+n]
			if hasExtra {
				size += extra[i]
			}
			if size < 0 {
				return fmt.Errorf("pads %s are larger than the result", listInts(win.pads))
			}
			out[2+i] = Dim{Size: size}
		}
	}
	c.set(0, c.inType(0), out)
	return nil
}

func inferPool(c *inferContext) error {
	x := c.inShape(0)
	if x == nil {
		c.set(0, c.inType(0), nil)
		c.set(1, Int64, nil)
		return nil
	}
	if len(x) < 3 {
		return fmt.Errorf("input %v has no spatial axes", x)
	}
	win, err := c.windowOf(len(x)-2, nil)
	if err != nil {
		return err
	}
	if win.kernel == nil {
		return fmt.Errorf("has no kernel_shape")
	}
	out := slices.Clone(x[:2])
	for i, d := range x[2:] {
		d, err := win.size(i, d)
		if err != nil {
			return err
		}
		out = append(out, d)
	}
	c.set(0, c.inType(0), out)
	c.set(1, Int64, out)
	return nil
}

func inferGlobalPool(c *inferContext) error {
	out := slices.Clone(c.inShape(0))
	for i := 2; i < len(out); i++ {
		out[i] = Dim{Size: 1}
	}
	c.set(0, c.inType(0), out)
	return nil
}

// inferResize follows constant sizes and scales.
func inferResize(c *inferContext) error {
	x := c.inShape(0)
	if x == nil {
		c.set(0, c.inType(0), nil)
		return nil
	}
	out := unknownShape(int64(len(x)))
	if _, some := c.AttrInts("axes"); !some {
		if sizes := c.inElems(3); len(sizes) == len(x) && c.AttrString("keep_aspect_ratio_policy", "stretch") == "stretch" {
			s, err := dims(sizes)
			if err != nil {
				return err
			}
			out = s
		} else if scales, ok := c.scales(); ok && len(scales) == len(x) {
			for i, d := range x {
				if scaled := float64(d.Size) * float64(scales[i]); d.known() && scaled >= 0 && scaled < 1<<40 {
					out[i] = Dim{Size: int64(scaled)}
				} else if scales[i] == 1 {
					out[i] = d
				}
			}
		}
	}
	c.set(0, c.inType(0), out)
	return nil
}

// scales returns the constant scales of a Resize (input 2) or an Upsample
// (input 1).
func (c *inferContext) scales() ([]float32, bool) {
	i := 2
	if c.Op == "Upsample" {
		i = 1
	}
	v := c.input(i)
	if v == nil || v.from == nil || len(v.from.Data) > 4*maxRank {
		return nil, false
	}
	return v.from.Floats()
}

package grad

import (
	"galley/onnx"
)

func init() {
	Register("", "Identity", passGrad)
	Register("", "Reshape", reshapeGrad)
	Register("", "Flatten", reshapeGrad)
	Register("", "Squeeze", reshapeGrad)
	Register("", "Unsqueeze", reshapeGrad)
	Register("", "Transpose", transposeGrad)
	Register("", "Expand", expandGrad)
	Register("", "Tile", tileGrad)
	Register("", "Cast", castGrad)
	Register("", "CastLike", castGrad)
}

func passGrad(_ *Context, dy []string) ([]string, error) { return dy[:1], nil }

func reshapeGrad(c *Context, dy []string) ([]string, error) {
	return []string{c.ReshapeTo(dy[0], c.In(0))}, nil
}

func castGrad(c *Context, dy []string) ([]string, error) {
	from := c.Type(c.In(0))
	if from == c.Type(c.Out(0)) {
		return dy[:1], nil
	}
	return []string{c.OpAttrs("Cast", map[string]onnx.Attr{"to": int64(from)}, dy[0])}, nil
}

func transposeGrad(c *Context, dy []string) ([]string, error) {
	perm, ok := c.Node.AttrInts("perm")
	if !ok { // reversed, and so is its inverse
		return []string{c.Op("Transpose", dy[0])}, nil
	}
	inverse := make([]int64, len(perm))
	for i, p := range perm {
		if p < 0 || p >= int64(len(perm)) {
			return nil, c.Errorf("perm %v is no permutation", perm)
		}
		inverse[p] = int64(i)
	}
	return []string{c.OpAttrs("Transpose", map[string]onnx.Attr{"perm": inverse}, dy[0])}, nil
}

func expandGrad(c *Context, dy []string) ([]string, error) {
	return []string{c.SumTo(dy[0], c.Out(0), c.In(0))}, nil
}

// Each axis of dy splits into repeats and the input's own length; the repeats
// are summed.
func tileGrad(c *Context, dy []string) ([]string, error) {
	x := c.In(0)
	rank, err := c.Rank(x)
	if err != nil {
		return nil, err
	}
	if rank == 0 {
		return dy[:1], nil
	}
	pairs := c.OpAttrs("Concat", map[string]onnx.Attr{"axis": int64(1)},
		c.Op("Unsqueeze", c.In(1), c.Ints(1)),
		c.Op("Unsqueeze", c.ShapeOf(x), c.Ints(1)))
	split := c.reshape(dy[0], c.Op("Reshape", pairs, c.Ints(-1)))
	axes := make([]int64, rank)
	for i := range axes {
		axes[i] = int64(2 * i)
	}
	return []string{c.reduceSum(split, axes, false)}, nil
}

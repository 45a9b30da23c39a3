package quantize

import (
	"slices"

	"galley/onnx"
)

// A matrix is a constant of a graph as numbers.
type matrix struct {
	name   string // the value that holds it
	dims   []int64
	values []float32
}

// constants reads values of a graph that depend on no input: initializers,
// Constant nodes, and what Cast, Identity and a Transpose of two dimensions
// make of them.
type constants struct {
	tensors   map[string]*onnx.Tensor
	producers map[string]*onnx.Node
}

// maxSteps bounds how many nodes stand between a constant and its use.
const maxSteps = 8

func newConstants(g *onnx.Graph) *constants {
	c := &constants{tensors: make(map[string]*onnx.Tensor, len(g.Initializers)), producers: g.Producers()}
	for _, t := range g.Initializers {
		c.tensors[t.Name] = t
	}
	for _, n := range g.Nodes {
		if n.Domain != "" || n.Op != "Constant" {
			continue
		}
		if t, ok := n.Attrs["value"].(*onnx.Tensor); ok {
			c.tensors[n.Output(0)] = t
		}
	}
	return c
}

// trace finds the tensor behind a value, and whether it is transposed on the
// way; nil if there is none of floats.
func (c *constants) trace(name string) (t *onnx.Tensor, transposed bool) {
	for range maxSteps {
		if t := c.tensors[name]; t != nil {
			if !t.Type.IsFloat() {
				return nil, false
			}
			return t, transposed
		}
		n := c.producers[name]
		if n == nil || n.Domain != "" {
			return nil, false
		}
		switch n.Op {
		case "Identity":
		case "Cast":
			if !onnx.DataType(n.AttrInt("to", 0)).IsFloat() {
				return nil, false
			}
		case "Transpose":
			if perm, ok := n.AttrInts("perm"); ok && !slices.Equal(perm, []int64{1, 0}) {
				return nil, false
			}
			transposed = !transposed
		default:
			return nil, false
		}
		name = n.Input(0)
	}
	return nil, false
}

// dims returns the dimensions of a constant of floats; nil if it is none.
func (c *constants) dims(name string) []int64 {
	t, transposed := c.trace(name)
	if t == nil || transposed && len(t.Dims) != 2 {
		return nil
	}
	if transposed {
		return []int64{t.Dims[1], t.Dims[0]}
	}
	return append([]int64{}, t.Dims...)
}

// matrix reads a constant that dims knows.
func (c *constants) matrix(name string) (*matrix, bool) {
	t, transposed := c.trace(name)
	if t == nil {
		return nil, false
	}
	values, ok := t.Floats()
	if !ok {
		return nil, false
	}
	m := &matrix{name: name, dims: c.dims(name), values: values}
	if transposed {
		m.values = transpose(values, int(t.Dims[0]), int(t.Dims[1]))
	}
	return m, m.dims != nil
}

// transpose turns [rows, columns] into [columns, rows].
func transpose(x []float32, rows, columns int) []float32 {
	out := make([]float32, len(x))
	const tile = 32 // both sides of a tile stay in the cache
	for r0 := 0; r0 < rows; r0 += tile {
		for c0 := 0; c0 < columns; c0 += tile {
			for r := r0; r < min(r0+tile, rows); r++ {
				for c := c0; c < min(c0+tile, columns); c++ {
					out[c*rows+r] = x[r*columns+c]
				}
			}
		}
	}
	return out
}

package quantize

import (
	"slices"

	"galley/onnx"
)

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

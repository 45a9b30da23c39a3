package onnx

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"galley"
)

// TestInferAnything applies every rule to inputs and attributes that make no
// sense: it may fail, but only with an error that names the node.
func TestInferAnything(t *testing.T) {
	ops := slices.SortedFunc(maps.Keys(inferRules), func(a, b opKey) int {
		return cmp.Or(cmp.Compare(a.domain, b.domain), cmp.Compare(a.op, b.op))
	})
	number := rapid.SampledFrom([]int64{0, 1, -1, 2, 3, -7, 100, 1 << 33, math.MaxInt64, math.MinInt64})
	dim := rapid.OneOf(
		rapid.Map(rapid.SampledFrom([]int64{0, 1, 2, 3, 12, math.MaxInt64}), func(n int64) Dim { return Dim{Size: n} }),
		rapid.SampledFrom([]Dim{unknownDim, Symbol("n"), Symbol("min(3,n)"), Symbol("min(")}))
	shape := rapid.Custom(func(r *rapid.T) Shape {
		if rapid.IntRange(0, 5).Draw(r, "rank known") == 0 {
			return nil
		}
		return append(Shape{}, rapid.SliceOfN(dim, 0, 5).Draw(r, "dims")...)
	})
	kind := rapid.SampledFrom([]DataType{Float, Int64, Int32, Bool, Float16, Undefined})
	list := rapid.SliceOfN(number, 0, 4)
	names := []string{
		"axis", "axes", "perm", "to", "dtype", "keepdims", "start", "end", "starts", "ends", "split", "num_outputs",
		"pads", "strides", "dilations", "kernel_shape", "group", "auto_pad", "ceil_mode", "blocksize", "batch_dims",
		"equation", "value", "value_ints", "shape", "output_shape", "output_padding", "hidden_size", "direction",
		"layout", "transA", "transB", "transBatchA", "allowzero", "reduction", "then_branch", "else_branch", "body",
		"output_dtype", "noop_with_empty_axes", "stash_type", "value_float",
	}
	attr := rapid.Custom(func(r *rapid.T) Attr {
		switch rapid.IntRange(0, 6).Draw(r, "kind") {
		case 0, 1:
			return number.Draw(r, "int")
		case 2, 3:
			return list.Draw(r, "ints")
		case 4:
			return rapid.SampledFrom([]string{"", "ij,jk->ik", "->", "SAME_UPPER", "VALID", "bidirectional", "none", "a->\x1b"}).Draw(r, "text")
		case 5:
			return NewInt64("t", list.Draw(r, "tensor"), 0) // the dimensions are mended below
		default:
			return &Graph{Outputs: []Value{{Name: "in0", Type: Float, Shape: shape.Draw(r, "branch")}}}
		}
	})
	rapid.Check(t, func(r *rapid.T) {
		op := rapid.SampledFrom(ops).Draw(r, "op")
		n := &Node{Name: "n", Op: op.op, Domain: op.domain, Attrs: map[string]Attr{}}
		g := &Graph{Nodes: []*Node{n}}
		for i := range rapid.IntRange(0, 5).Draw(r, "inputs") {
			name := fmt.Sprint("in", i)
			switch rapid.IntRange(0, 4).Draw(r, "input") {
			case 0:
				name = ""
			case 1, 2:
				values := list.Draw(r, "constant")
				if rapid.Bool().Draw(r, "scalar") {
					g.Initializers = append(g.Initializers, NewInt64(name, append(values, 1)[:1]))
				} else {
					g.Initializers = append(g.Initializers, NewInt64(name, values, int64(len(values))))
				}
			default:
				g.Inputs = append(g.Inputs, Value{Name: name, Type: kind.Draw(r, "type"), Shape: shape.Draw(r, "shape")})
			}
			n.Inputs = append(n.Inputs, name)
		}
		for i := range rapid.IntRange(0, 3).Draw(r, "outputs") {
			n.Outputs = append(n.Outputs, fmt.Sprint("out", i))
		}
		for _, name := range rapid.SliceOfN(rapid.SampledFrom(names), 0, 4).Draw(r, "attributes") {
			a := attr.Draw(r, name)
			if t, ok := a.(*Tensor); ok {
				t.Dims[0] = int64(len(t.Data)) / 8
			}
			n.Attrs[name] = a
		}
		types, err := InferShapes(&Model{IRVersion: 8, Opsets: map[string]int64{"": 17, "com.microsoft": 1}, Graph: g})
		if err != nil {
			var e *galley.Error
			if !errors.As(err, &e) || e.Subject == "" || len(e.Error()) > 4096 {
				r.Fatalf("%v", err)
			}
			return
		}
		for _, o := range n.Outputs {
			v, ok := types.Lookup(o)
			if !ok {
				r.Fatalf("output %s is lost", o)
			}
			if c, ok := types.Constant(o); ok {
				if err := c.check(); err != nil {
					r.Fatal(err)
				}
				if _, fits := mergeShapes(v.Shape, c.Shape()); !fits {
					r.Fatalf("%s has shape %v as a constant of %v", o, v.Shape, c.Dims)
				}
			}
			for _, d := range v.Shape {
				if d.Size < -1 {
					r.Fatalf("%s has shape %#v", o, v.Shape)
				}
			}
		}
	})
}

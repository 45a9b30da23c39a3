package grad_test

import (
	"math/rand/v2"
	"testing"

	"galley/onnx"

	"pgregory.net/rapid"
)

func TestShape(t *testing.T) {
	property(t, "Reshape", func(rt *rapid.T) *fixture {
		shape := dims(rt, 1, 3)
		return &fixture{operands: []operand{{dims: shape}}, build: func(b *onnx.Builder, in []string) string {
			return b.OpAttrs("Reshape", attrs{"allowzero": int64(1)}, in[0], b.Ints(int64(size(shape))))
		}}
	})
	property(t, "Flatten", func(rt *rapid.T) *fixture {
		return &fixture{operands: []operand{{dims: dims(rt, 1, 3)}}, build: op("Flatten", attrs{"axis": int64(1)})}
	})
	property(t, "Unsqueeze and Squeeze", func(rt *rapid.T) *fixture {
		return &fixture{operands: []operand{{dims: dims(rt, 0, 3)}}, build: func(b *onnx.Builder, in []string) string {
			wide := b.Op("Unsqueeze", in[0], b.Ints(0, -1))
			return b.Op("Squeeze", b.Op("Mul", wide, wide), b.Ints(-1))
		}}
	})
	property(t, "Transpose", func(rt *rapid.T) *fixture {
		shape := dims(rt, 1, 4)
		build := op("Transpose", nil)
		if rapid.Bool().Draw(rt, "perm") {
			perm := make([]int64, len(shape))
			for i, p := range rapid.Permutation(sequence(len(shape))).Draw(rt, "order") {
				perm[i] = p
			}
			build = op("Transpose", attrs{"perm": perm})
		}
		return &fixture{operands: []operand{{dims: shape}}, build: build}
	})
	property(t, "Expand", func(rt *rapid.T) *fixture {
		s := broadcasting(rt, 2)
		if len(s[0]) < len(s[1]) {
			s[0], s[1] = s[1], s[0]
		}
		return &fixture{operands: []operand{{dims: s[1]}}, build: func(b *onnx.Builder, in []string) string {
			return b.Op("Expand", in[0], b.Ints(s[0]...))
		}}
	})
	property(t, "Tile", func(rt *rapid.T) *fixture {
		shape := dims(rt, 1, 3)
		repeats := rapid.SliceOfN(rapid.SampledFrom([]int64{1, 2, 3, 0}), len(shape), len(shape)).Draw(rt, "repeats")
		return &fixture{operands: []operand{{dims: shape}}, build: func(b *onnx.Builder, in []string) string {
			return b.Op("Tile", in[0], b.Ints(repeats...))
		}}
	})
}

func sequence(n int) []int64 {
	s := make([]int64, n)
	for i := range s {
		s[i] = int64(i)
	}
	return s
}

func TestSlice(t *testing.T) {
	property(t, "Slice", func(rt *rapid.T) *fixture {
		shape := dims(rt, 1, 3)
		axis := rapid.IntRange(0, len(shape)-1).Draw(rt, "axis")
		start := rapid.Int64Range(-5, 5).Draw(rt, "start")
		end := rapid.Int64Range(-5, 9).Draw(rt, "end")
		step := rapid.SampledFrom([]int64{1, 1, 1, 2, -1}).Draw(rt, "step")
		computed := rapid.Bool().Draw(rt, "computed start")
		return &fixture{operands: []operand{{dims: shape}}, build: func(b *onnx.Builder, in []string) string {
			from := b.Ints(start)
			if computed {
				zero := b.Op("Sub", b.Op("Size", in[0]), b.Op("Size", in[0]))
				from = b.Op("Add", from, zero)
			}
			if step == 1 && axis == 0 {
				return b.Op("Slice", in[0], from, b.Ints(end))
			}
			return b.Op("Slice", in[0], from, b.Ints(end), b.Ints(int64(axis)), b.Ints(step))
		}}
	})
	property(t, "Split", func(rt *rapid.T) *fixture {
		shape := dims(rt, 1, 3)
		axis := rapid.IntRange(0, len(shape)-1).Draw(rt, "axis")
		shape[axis] = 5
		unused := rapid.Bool().Draw(rt, "unused")
		return &fixture{operands: []operand{{dims: shape}}, build: func(b *onnx.Builder, in []string) string {
			parts := b.Node("", "Split", attrs{"axis": int64(axis)}, 3, in[0], b.Ints(2, 1, 2))
			if unused {
				return b.Op("Mul", parts[0], parts[0])
			}
			return b.Op("Mul", b.Op("Mul", parts[0], parts[1]), parts[2])
		}}
	})
	property(t, "Concat", func(rt *rapid.T) *fixture {
		shape := dims(rt, 1, 3)
		axis := rapid.IntRange(0, len(shape)-1).Draw(rt, "axis")
		operands := []operand{}
		for range rapid.IntRange(1, 3).Draw(rt, "operands") {
			s := append([]int64{}, shape...)
			s[axis] = rapid.Int64Range(0, 3).Draw(rt, "length")
			operands = append(operands, operand{dims: s})
		}
		return &fixture{operands: operands, build: op("Concat", attrs{"axis": int64(axis)})}
	})
	property(t, "Pad", func(rt *rapid.T) *fixture {
		shape := dims(rt, 1, 3)
		pads := rapid.SliceOfN(rapid.Int64Range(0, 2), 2*len(shape), 2*len(shape)).Draw(rt, "pads")
		return &fixture{operands: []operand{{dims: shape}}, build: func(b *onnx.Builder, in []string) string {
			return b.Op("Pad", in[0], b.Ints(pads...))
		}}
	})
}

// indices draws positions in [-n, n); n must not be 0.
func indices(rng *rand.Rand, count int, n int64) []int64 {
	out := make([]int64, count)
	for i := range out {
		out[i] = rng.Int64N(2*n) - n
	}
	return out
}

func constInts(b *onnx.Builder, values []int64, dims ...int64) string {
	return b.Weight(onnx.NewInt64(b.Name("indices"), values, dims...))
}

func TestGather(t *testing.T) {
	for _, rows := range []bool{false, true} {
		name := "Gather"
		if rows {
			name = "Gather rows"
		}
		property(t, name, func(rt *rapid.T) *fixture {
			shape := dims(rt, 1, 3)
			axis := 0
			if !rows {
				axis = rapid.IntRange(0, len(shape)-1).Draw(rt, "axis")
			}
			shape[axis] = rapid.SampledFrom([]int64{3, 1, 70}).Draw(rt, "table")
			if size(shape) > 150 {
				shape[axis] = 3
			}
			at := dims(rt, 0, 2)
			rng := generator(rt)
			return &fixture{operands: []operand{{dims: shape}}, rows: rows, build: func(b *onnx.Builder, in []string) string {
				y := b.OpAttrs("Gather", attrs{"axis": int64(axis)}, in[0],
					constInts(b, indices(rng, size(at), shape[axis]), at...))
				if rows && rapid.Bool().Draw(rt, "tied") { // the table is also used whole
					return b.Op("Mul", y, b.OpAttrs("ReduceMax", attrs{"keepdims": int64(0)}, b.Op("Mul", b.Op("Slice", in[0], b.Ints(0), b.Ints(1)), b.Op("Slice", in[0], b.Ints(0), b.Ints(1)))))
				}
				return y
			}}
		})
	}
	property(t, "GatherElements", func(rt *rapid.T) *fixture {
		shape := dims(rt, 1, 3)
		axis := rapid.IntRange(0, len(shape)-1).Draw(rt, "axis")
		shape[axis] = max(shape[axis], 1)
		at := append([]int64{}, shape...)
		at[axis] = rapid.Int64Range(0, 4).Draw(rt, "count")
		rng := generator(rt)
		return &fixture{operands: []operand{{dims: shape}}, build: func(b *onnx.Builder, in []string) string {
			return b.OpAttrs("GatherElements", attrs{"axis": int64(axis)}, in[0], constInts(b, indices(rng, size(at), shape[axis]), at...))
		}}
	})
	property(t, "GatherND", func(rt *rapid.T) *fixture {
		shape := rapid.SampledFrom([][]int64{{4}, {2, 3}, {2, 3, 2}, {2, 3, 4, 1}}).Draw(rt, "shape")
		batch := rapid.IntRange(0, len(shape)-1).Draw(rt, "batch")
		tuple := rapid.IntRange(1, len(shape)-batch).Draw(rt, "tuple")
		at := append(append([]int64{}, shape[:batch]...), rapid.Int64Range(1, 3).Draw(rt, "count"), int64(tuple))
		rng := generator(rt)
		var values []int64
		for range size(at) / tuple {
			for k := range tuple {
				values = append(values, rng.Int64N(shape[batch+k]))
			}
		}
		return &fixture{operands: []operand{{dims: shape}}, build: func(b *onnx.Builder, in []string) string {
			return b.OpAttrs("GatherND", attrs{"batch_dims": int64(batch)}, in[0], constInts(b, values, at...))
		}}
	})
	property(t, "ScatterElements", func(rt *rapid.T) *fixture {
		at := attrs{"axis": int64(1)}
		places := []int64{2, 0, 1, 3, 2, 0}
		if rapid.Bool().Draw(rt, "add") {
			at["reduction"] = "add"
			places = []int64{2, 2, 1, 1, 0, 0}
		}
		return &fixture{operands: []operand{{dims: []int64{3, 4}}, {dims: []int64{3, 2}}}, build: func(b *onnx.Builder, in []string) string {
			return b.OpAttrs("ScatterElements", at, in[0], constInts(b, places, 3, 2), in[1])
		}}
	})
	property(t, "ScatterND", func(rt *rapid.T) *fixture {
		at := attrs{}
		places := []int64{2, 0}
		if rapid.Bool().Draw(rt, "add") {
			at["reduction"] = "add"
			places = []int64{2, 2}
		}
		return &fixture{operands: []operand{{dims: []int64{3, 4}}, {dims: []int64{2, 4}}}, build: func(b *onnx.Builder, in []string) string {
			return b.OpAttrs("ScatterND", at, in[0], constInts(b, places, 2, 1), in[1])
		}}
	})
}

func TestLoss(t *testing.T) {
	for _, name := range []string{"SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"} {
		property(t, name, func(rt *rapid.T) *fixture {
			shape := rapid.SampledFrom([][]int64{{3, 4}, {1, 1}, {2, 3, 2}, {2, 1, 3}, {2, 3, 1, 2}}).Draw(rt, "scores")
			reduction := rapid.SampledFrom([]string{"mean", "sum", "none"}).Draw(rt, "reduction")
			at := attrs{"reduction": reduction}
			places := append([]int64{shape[0]}, shape[2:]...)
			rng := generator(rt)
			labels := make([]int64, size(places))
			for i := range labels {
				labels[i] = rng.Int64N(shape[1])
			}
			if rapid.Bool().Draw(rt, "ignore") && len(labels) > 1 {
				at["ignore_index"] = int64(-100)
				labels[0] = -100
			}
			operands := []operand{{dims: shape}}
			if rapid.Bool().Draw(rt, "weights") {
				operands = append(operands, operand{dims: shape[1:2], domain: positive, fixed: true})
			}
			useProbabilities := name == "SoftmaxCrossEntropyLoss" && reduction == "none" && rapid.Bool().Draw(rt, "log_prob")
			f := &fixture{operands: operands, typ: onnx.Float, eps: 1e-2, tol: 1e-2}
			f.build = func(b *onnx.Builder, in []string) string {
				inputs := append([]string{in[0], constInts(b, labels, places...)}, in[1:]...)
				if useProbabilities {
					out := b.Node("", name, at, 2, inputs...)
					return b.Op("Add", b.Op("Unsqueeze", out[0], b.Ints(1)), out[1])
				}
				return b.OpAttrs(name, at, inputs...)
			}
			return f
		})
	}
}

package grad_test

import (
	"testing"

	"galley/onnx"

	"pgregory.net/rapid"
)

func TestReduce(t *testing.T) {
	for _, c := range []struct {
		name   string
		domain domain
	}{
		{"ReduceSum", anywhere}, {"ReduceMean", anywhere},
		{"ReduceMax", distinct}, {"ReduceMin", distinct},
		{"ReduceL1", offZero}, {"ReduceL2", offZero}, {"ReduceSumSquare", anywhere},
		{"ReduceLogSumExp", anywhere},
	} {
		property(t, c.name, func(rt *rapid.T) *fixture {
			shape := dims(rt, 1, 3)
			for i := range shape { // ONNX Runtime's reductions of nothing have wrong shapes
				shape[i] = max(shape[i], 1)
			}
			var axes []int64
			for i := range shape {
				if rapid.Bool().Draw(rt, "reduce") {
					axes = append(axes, int64(i)-int64(len(shape))*int64(rapid.IntRange(0, 1).Draw(rt, "negative")))
				}
			}
			at := attrs{"keepdims": int64(rapid.IntRange(0, 1).Draw(rt, "keepdims"))}
			opset := rapid.SampledFrom([]int64{17, 21}).Draw(rt, "opset")
			if len(axes) == 0 && rapid.Bool().Draw(rt, "noop") && opset == 21 {
				at["noop_with_empty_axes"] = int64(1)
				if c.name != "ReduceSum" && c.name != "ReduceMean" { // f(x) of one element is not x
					delete(at, "noop_with_empty_axes")
				}
			}
			return &fixture{operands: []operand{{dims: shape, domain: c.domain}}, opset: opset,
				build: func(b *onnx.Builder, in []string) string {
					if len(axes) == 0 {
						return b.OpAttrs(c.name, at, in[0])
					}
					if opset < 18 && c.name != "ReduceSum" {
						at["axes"] = axes
						return b.OpAttrs(c.name, at, in[0])
					}
					return b.OpAttrs(c.name, at, in[0], b.Ints(axes...))
				}}
		})
	}
	property(t, "CumSum", func(rt *rapid.T) *fixture {
		shape := dims(rt, 1, 3)
		axis := rapid.IntRange(0, len(shape)-1).Draw(rt, "axis")
		at := attrs{
			"exclusive": int64(rapid.IntRange(0, 1).Draw(rt, "exclusive")),
			"reverse":   int64(rapid.IntRange(0, 1).Draw(rt, "reverse")),
		}
		return &fixture{operands: []operand{{dims: shape}}, build: func(b *onnx.Builder, in []string) string {
			return b.OpAttrs("CumSum", at, in[0], b.Int(int64(axis)))
		}}
	})
}

func TestNormalize(t *testing.T) {
	for _, name := range []string{"Softmax", "LogSoftmax"} {
		property(t, name, func(rt *rapid.T) *fixture {
			shape := dims(rt, 1, 3)
			axis := rapid.IntRange(-len(shape), len(shape)-1).Draw(rt, "axis")
			return &fixture{operands: []operand{{dims: shape}}, build: op(name, attrs{"axis": int64(axis)})}
		})
	}
	property(t, "LayerNormalization", func(rt *rapid.T) *fixture {
		shape := dims(rt, 1, 3)
		for i := range shape {
			shape[i] += 2
		}
		if len(shape) > 1 && rapid.IntRange(0, 4).Draw(rt, "empty") == 0 {
			shape[0] = 0
		}
		axis := rapid.IntRange(1-len(shape), len(shape)-1).Draw(rt, "axis")
		if axis == 0 && shape[0] == 0 {
			axis = len(shape) - 1
		}
		scale := shape[(axis+len(shape))%len(shape):]
		f := &fixture{
			operands: []operand{{dims: shape}, {dims: scale, domain: positive}, {dims: scale}},
			build:    op("LayerNormalization", attrs{"axis": int64(axis), "epsilon": float32(1e-5)}),
			typ:      onnx.Float,
		}
		if rapid.Bool().Draw(rt, "no bias") {
			f.operands = f.operands[:2]
		}
		return f
	})
}

package grad_test

import (
	"math/rand/v2"
	"testing"

	"galley/internal/ort/orttest"
	"galley/onnx"

	"pgregory.net/rapid"
)

// dims draws a shape with sizes of 0 and 1 among others.
func dims(t *rapid.T, minRank, maxRank int) []int64 {
	return rapid.SliceOfN(rapid.SampledFrom([]int64{3, 2, 1, 4, 0}), minRank, maxRank).Draw(t, "dims")
}

// broadcasting draws the shape of a result and n shapes that broadcast to it
// together: leading dimensions are missing, others are 1.
func broadcasting(t *rapid.T, n int) [][]int64 {
	full := dims(t, 0, 3)
	shapes := make([][]int64, n)
	for i := range shapes {
		s := append([]int64{}, full...)
		if i > 0 {
			for k := range s {
				if rapid.IntRange(0, 2).Draw(t, "one") == 0 {
					s[k] = 1
				}
			}
			s = s[rapid.IntRange(0, len(s)).Draw(t, "missing"):]
		}
		shapes[i] = s
	}
	if n > 1 && rapid.Bool().Draw(t, "swap") {
		shapes[0], shapes[1] = shapes[1], shapes[0]
	}
	return shapes
}

func declarations(t *rapid.T) declaration {
	return rapid.SampledFrom([]declaration{fixedSizes, symbols, unnamed}).Draw(t, "declaration")
}

func generator(t *rapid.T) *rand.Rand {
	return rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
}

func op(name string, attrs map[string]onnx.Attr) func(b *onnx.Builder, in []string) string {
	return func(b *onnx.Builder, in []string) string { return b.OpAttrs(name, attrs, in...) }
}

func msOp(name string, attrs map[string]onnx.Attr) func(b *onnx.Builder, in []string) string {
	return func(b *onnx.Builder, in []string) string { return b.Node("com.microsoft", name, attrs, 1, in...)[0] }
}

// property runs random fixtures of one name.
func property(t *testing.T, name string, draw func(t *rapid.T) *fixture) {
	t.Run(name, func(t *testing.T) {
		opener := orttest.Opener(t)
		rapid.Check(t, func(rt *rapid.T) {
			f := draw(rt)
			if f.declare == undeclared {
				f.declare = declarations(rt)
			}
			f.check(rt, opener, generator(rt))
		})
	})
}

type attrs = map[string]onnx.Attr

func TestUnary(t *testing.T) {
	for _, c := range []struct {
		name   string
		domain domain
		typ    onnx.DataType
		attrs  attrs
		ms     bool
	}{
		{name: "Neg"}, {name: "Exp"}, {name: "Erf", typ: onnx.Float}, {name: "Tanh"}, {name: "Sigmoid"},
		{name: "Sin"}, {name: "Cos"}, {name: "Identity"}, {name: "Softplus", typ: onnx.Float},
		{name: "Abs", domain: offZero}, {name: "Relu", domain: offZero},
		{name: "LeakyRelu", domain: offZero, typ: onnx.Float, attrs: attrs{"alpha": float32(0.2)}},
		{name: "Elu", domain: offZero, typ: onnx.Float, attrs: attrs{"alpha": float32(1.5)}},
		{name: "Log", domain: positive}, {name: "Sqrt", domain: positive},
		{name: "Reciprocal", domain: offZero},
		{name: "Gelu", typ: onnx.Float}, {name: "Gelu", typ: onnx.Float, attrs: attrs{"approximate": "tanh"}},
		{name: "Gelu", typ: onnx.Float, ms: true}, {name: "FastGelu", typ: onnx.Float, ms: true},
		{name: "Dropout"},
	} {
		property(t, c.name, func(rt *rapid.T) *fixture {
			build := op(c.name, c.attrs)
			low := 0
			if c.ms {
				build, low = msOp(c.name, c.attrs), 1
			}
			return &fixture{operands: []operand{{dims: dims(rt, low, 3), domain: c.domain}}, build: build, typ: c.typ}
		})
	}
}

func TestBinary(t *testing.T) {
	for _, c := range []struct {
		name string
		x, y domain
	}{
		{name: "Add"}, {name: "Sub"}, {name: "Mul"}, {name: "Div", y: offZero}, {name: "Pow", x: positive},
		{name: "Sum"}, {name: "Mean"},
	} {
		property(t, c.name, func(rt *rapid.T) *fixture {
			s := broadcasting(rt, 2)
			f := &fixture{operands: []operand{{dims: s[0], domain: c.x}, {dims: s[1], domain: c.y}}, build: op(c.name, nil)}
			if c.name == "Sum" || c.name == "Mean" {
				f.typ = onnx.Float
			}
			return f
		})
	}
	property(t, "one operand twice", func(rt *rapid.T) *fixture {
		return &fixture{operands: []operand{{dims: dims(rt, 0, 2)}}, build: func(b *onnx.Builder, in []string) string {
			return b.Op("Mul", b.Op("Mul", in[0], in[0]), in[0])
		}}
	})
	for _, exponent := range []float64{2, 3, 0.5, -1} {
		property(t, "Pow constant", func(rt *rapid.T) *fixture {
			return &fixture{
				operands: []operand{{dims: dims(rt, 0, 2), domain: positive}},
				typ:      onnx.Float,
				build:    func(b *onnx.Builder, in []string) string { return b.Op("Pow", in[0], b.Float(float32(exponent))) },
			}
		})
	}
	for name, exponent := range map[string]func(b *onnx.Builder, x string) string{
		"constant": func(b *onnx.Builder, _ string) string { return b.Float(0) },
		"computed": func(b *onnx.Builder, x string) string { return b.Op("Mul", x, b.Float(0)) },
	} {
		property(t, "Pow of zero by a zero that is "+name, func(rt *rapid.T) *fixture {
			return &fixture{
				operands: []operand{{dims: dims(rt, 0, 2)}},
				typ:      onnx.Float,
				build: func(b *onnx.Builder, in []string) string {
					return b.Op("Add", in[0], b.Op("Pow", b.Op("Mul", in[0], b.Float(0)), exponent(b, in[0])))
				},
			}
		})
	}
	property(t, "Pow of an integer", func(rt *rapid.T) *fixture {
		return &fixture{
			operands: []operand{{dims: dims(rt, 0, 2), domain: offZero}},
			build:    func(b *onnx.Builder, in []string) string { return b.Op("Pow", in[0], b.Int(3)) },
		}
	})
}

func TestSelect(t *testing.T) {
	for _, name := range []string{"Max", "Min"} {
		property(t, name, func(rt *rapid.T) *fixture {
			n := rapid.IntRange(1, 3).Draw(rt, "operands")
			s := broadcasting(rt, n)
			operands := []operand{}
			for i := range n {
				operands = append(operands, operand{dims: s[i], domain: distinct})
			}
			return &fixture{operands: operands, build: op(name, nil), eps: 1e-6, tol: 1e-5}
		})
	}
	property(t, "Where", func(rt *rapid.T) *fixture {
		s := broadcasting(rt, 3)
		operands := []operand{{dims: s[0], domain: offZero, fixed: true}, {dims: s[1]}, {dims: s[2]}}
		return &fixture{operands: operands, build: func(b *onnx.Builder, in []string) string {
			return b.Op("Where", b.Op("Greater", in[0], b.Op("Sub", in[0], in[0])), in[1], in[2])
		}}
	})
	property(t, "Clip", func(rt *rapid.T) *fixture {
		return &fixture{
			operands: []operand{{dims: dims(rt, 0, 2), domain: offZero}, {dims: []int64{}, domain: positive}},
			build: func(b *onnx.Builder, in []string) string {
				low := b.Op("Neg", in[1])
				return b.Op("Clip", in[0], low, in[1])
			},
		}
	})
	property(t, "Cast", func(rt *rapid.T) *fixture {
		return &fixture{operands: []operand{{dims: dims(rt, 0, 2)}}, typ: onnx.Float, build: func(b *onnx.Builder, in []string) string {
			wide := b.OpAttrs("Cast", attrs{"to": int64(onnx.Double)}, in[0])
			return b.OpAttrs("Cast", attrs{"to": int64(onnx.Float)}, b.Op("Mul", wide, wide))
		}}
	})
}

package onnx

import (
	"fmt"
	"maps"
)

// elementwiseRules are the operators that compute each element by itself.
var elementwiseRules = func() ruleSet {
	rules := onEach(inferUnary,
		std("Abs"), std("Acos"), std("Acosh"), std("Asin"), std("Asinh"), std("Atan"), std("Atanh"),
		std("BitwiseNot"), std("Ceil"), std("Celu"), std("Clip"), std("Cos"), std("Cosh"), std("Elu"),
		std("Erf"), std("Exp"), std("Floor"), std("Gelu"), std("HardSigmoid"), std("HardSwish"),
		std("Identity"), std("LeakyRelu"), std("Log"), std("Mish"), std("Neg"), std("Not"),
		std("Reciprocal"), std("Relu"), std("Round"), std("Selu"), std("Shrink"), std("Sigmoid"),
		std("Sign"), std("Sin"), std("Sinh"), std("Softplus"), std("Softsign"), std("Sqrt"), std("Swish"),
		std("Tan"), std("Tanh"), std("ThresholdedRelu"), std("CumSum"), std("Trilu"), std("Hardmax"),
		ms("Gelu"), ms("FastGelu"), ms("QuickGelu"), ms("BiasGelu"),
	)
	maps.Copy(rules, onEach(inferAxisUnary, std("Softmax"), std("LogSoftmax")))
	maps.Copy(rules, onEach(inferBinary,
		std("Add"), std("Sub"), std("Mul"), std("Div"), std("Mod"), std("BitwiseAnd"), std("BitwiseOr"),
		std("BitwiseXor"), std("BitShift"), std("And"), std("Or"), std("Xor"), std("Max"), std("Min"),
		std("Mean"), std("Sum")))
	maps.Copy(rules, onEach(inferCompare,
		std("Equal"), std("Greater"), std("GreaterOrEqual"), std("Less"), std("LessOrEqual")))
	maps.Copy(rules, ruleSet{
		std("Pow"):      inferLikeFirst,
		std("PRelu"):    inferLikeFirst,
		std("Where"):    inferWhere,
		std("Cast"):     inferCast,
		std("CastLike"): inferCastLike,
		std("IsNaN"):    inferTest,
		std("IsInf"):    inferTest,
		std("Dropout"):  inferDropout,
	})
	return rules
}()

// inferUnary gives output 0 the type and shape of input 0.
func inferUnary(c *inferContext) error {
	c.set(0, c.inType(0), c.inShape(0))
	switch c.Op {
	case "Identity":
		c.setElems(0, c.inElems(0))
		if in := c.input(0); in != nil && len(c.outs) > 0 {
			c.outs[0].from, c.outs[0].Other = in.from, in.Other
		}
	case "Neg":
		c.setElems(0, mapElems(c.inElems(0), func(e elem) elem { return subElems(number(0), e) }))
	case "Not":
		c.setElems(0, mapElems(c.inElems(0), func(e elem) elem {
			if !e.known {
				return elem{}
			}
			return truth(e.value == 0)
		}))
	}
	return nil
}

// inferAxisUnary is inferUnary for operators along attribute "axis".
func inferAxisUnary(c *inferContext) error {
	if s := c.inShape(0); len(s) > 0 {
		if _, err := normalAxis(c.AttrInt("axis", -1), len(s)); err != nil {
			return fmt.Errorf("%w: input shape %v", err, s)
		}
	}
	return inferUnary(c)
}

// inferBinary broadcasts any number of inputs of one type.
func inferBinary(c *inferContext) error {
	t := Undefined
	shapes := make([]Shape, len(c.Inputs))
	for i := range c.Inputs {
		shapes[i] = c.inShape(i)
		it := c.inType(i)
		switch {
		case t == Undefined:
			t = it
		case it != Undefined && it != t && c.Op != "BitShift":
			return fmt.Errorf("inputs have types %v and %v", t, it)
		}
	}
	s, err := broadcast(shapes...)
	if err != nil {
		return err
	}
	c.set(0, t, s)
	if len(c.Inputs) == 2 {
		if f := elemOps[c.Op]; f != nil {
			c.setElems(0, zipElems(c.inElems(0), c.inElems(1), f))
		}
	}
	return nil
}

// elemOps are the operators by which shapes are computed.
var elemOps = map[string]func(a, b elem) elem{
	"Add": addElems, "Sub": subElems, "Mul": mulElems, "Div": divElems,
	"Mod": func(a, b elem) elem {
		if a.known && b.known && a.value >= 0 && b.value > 0 {
			return number(a.value % b.value)
		}
		return elem{}
	},
	"Max": func(a, b elem) elem {
		if a.known && b.known {
			return number(max(a.value, b.value))
		}
		return elem{}
	},
	"Min": func(a, b elem) elem {
		if a.known && b.known {
			return number(min(a.value, b.value))
		}
		return elem{}
	},
	"And": func(a, b elem) elem {
		switch {
		case a == number(0) || b == number(0):
			return number(0)
		case a.known && b.known:
			return truth(a.value != 0 && b.value != 0)
		}
		return elem{}
	},
	"Or": func(a, b elem) elem {
		switch {
		case a == number(1) || b == number(1):
			return number(1)
		case a.known && b.known:
			return truth(a.value != 0 || b.value != 0)
		}
		return elem{}
	},
	"Equal": func(a, b elem) elem {
		switch {
		case a.same(b):
			return truth(true)
		case a.known && b.known:
			return truth(a.value == b.value)
		case a.known && a.value < 0 && b.symbol != "", b.known && b.value < 0 && a.symbol != "":
			return truth(false) // a symbol is no negative number
		}
		return elem{}
	},
	"Less":           orderElems(func(a, b int64) bool { return a < b }),
	"LessOrEqual":    orderElems(func(a, b int64) bool { return a <= b }),
	"Greater":        orderElems(func(a, b int64) bool { return a > b }),
	"GreaterOrEqual": orderElems(func(a, b int64) bool { return a >= b }),
}

func orderElems(f func(a, b int64) bool) func(a, b elem) elem {
	return func(a, b elem) elem {
		if a.known && b.known {
			return truth(f(a.value, b.value))
		}
		return elem{}
	}
}

// inferCompare broadcasts two inputs of one type into booleans.
func inferCompare(c *inferContext) error {
	if a, b := c.inType(0), c.inType(1); a != b && a != Undefined && b != Undefined {
		return fmt.Errorf("inputs have types %v and %v", a, b)
	}
	s, err := broadcast(c.inShape(0), c.inShape(1))
	if err != nil {
		return err
	}
	c.set(0, Bool, s)
	c.setElems(0, zipElems(c.inElems(0), c.inElems(1), elemOps[c.Op]))
	return nil
}

// inferLikeFirst broadcasts two inputs into the type of the first.
func inferLikeFirst(c *inferContext) error {
	s, err := broadcast(c.inShape(0), c.inShape(1))
	if err != nil {
		return err
	}
	c.set(0, c.inType(0), s)
	return nil
}

func inferWhere(c *inferContext) error {
	if t := c.inType(0); t != Bool && t != Undefined {
		return fmt.Errorf("condition has type %v, not bool", t)
	}
	t := c.inType(1)
	if t == Undefined {
		t = c.inType(2)
	} else if u := c.inType(2); u != Undefined && u != t {
		return fmt.Errorf("inputs have types %v and %v", t, u)
	}
	s, err := broadcast(c.inShape(0), c.inShape(1), c.inShape(2))
	if err != nil {
		return err
	}
	c.set(0, t, s)
	cond, x, y := c.inElems(0), c.inElems(1), c.inElems(2)
	n := max(len(cond), len(x), len(y))
	if !spans(cond, n) || !spans(x, n) || !spans(y, n) {
		return nil
	}
	out := make([]elem, n)
	for i := range out {
		p, a, b := at(cond, i), at(x, i), at(y, i)
		switch {
		case a.same(b), p == number(1):
			out[i] = a
		case p == number(0):
			out[i] = b
		}
	}
	c.setElems(0, out)
	return nil
}

func inferCast(c *inferContext) error {
	to := DataType(c.AttrInt("to", 0))
	if !to.Valid() {
		return fmt.Errorf("attribute \"to\" is no element type: %d", int32(to))
	}
	c.set(0, to, c.inShape(0))
	c.setElems(0, castElems(c.inElems(0), to))
	return nil
}

func inferCastLike(c *inferContext) error {
	c.set(0, c.inType(1), c.inShape(0))
	c.setElems(0, castElems(c.inElems(0), c.inType(1)))
	return nil
}

// castElems converts followed contents to another followed type.
func castElems(es []elem, to DataType) []elem {
	return mapElems(es, func(e elem) elem {
		switch {
		case to == Int64:
			return e
		case to == Int32 && (!e.known || int64(int32(e.value)) == e.value):
			return e
		case to == Bool && e.known:
			return truth(e.value != 0)
		}
		return elem{}
	})
}

// inferTest gives booleans of the shape of input 0.
func inferTest(c *inferContext) error {
	c.set(0, Bool, c.inShape(0))
	return nil
}

func inferDropout(c *inferContext) error {
	c.set(0, c.inType(0), c.inShape(0))
	c.set(1, Bool, c.inShape(0))
	return nil
}

func mapElems(es []elem, f func(elem) elem) []elem {
	if es == nil {
		return nil
	}
	out := make([]elem, len(es))
	for i, e := range es {
		out[i] = f(e)
	}
	return out
}

// zipElems combines contents of the same length; one element serves for all.
func zipElems(a, b []elem, f func(a, b elem) elem) []elem {
	n := max(len(a), len(b))
	if !spans(a, n) || !spans(b, n) {
		return nil
	}
	out := make([]elem, n)
	for i := range out {
		out[i] = f(at(a, i), at(b, i))
	}
	return out
}

// spans reports whether contents broadcast to n elements.
func spans(es []elem, n int) bool { return es != nil && (len(es) == n || len(es) == 1) }

func at(es []elem, i int) elem {
	if len(es) == 1 {
		return es[0]
	}
	return es[i]
}

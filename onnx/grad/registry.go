package grad

import (
	"slices"
	"strings"
)

// A Func appends the gradient of one node to the training graph.
//
// dy has one name per output of the node, "" where no gradient arrives; at
// least one is not empty. A gradient has the shape and type of its value. The
// result has one name per input, "" (or a shorter slice) where no gradient
// flows. A Func computes nothing for inputs that [Context.Needs] denies.
type Func func(c *Context, dy []string) ([]string, error)

type operator struct{ domain, op string }

var registered = map[operator]Func{}

// Register adds the gradient of an operator. It is called from init
// functions; the last registration of an operator wins.
func Register(domain, op string, f Func) { registered[operator{domain, op}] = f }

// Supported reports whether the operator has a gradient.
func Supported(domain, op string) bool {
	_, ok := registered[operator{standardDomain(domain), op}]
	return ok
}

// Operators lists the operators that have a gradient, sorted; those outside
// the standard domain as domain.Op.
func Operators() []string {
	var names []string
	for o := range registered {
		if o.domain == "" {
			names = append(names, o.op)
		} else {
			names = append(names, o.domain+"."+o.op)
		}
	}
	slices.SortFunc(names, strings.Compare)
	return names
}

// microsoft is the domain of ONNX Runtime's own operators.
const microsoft = "com.microsoft"

// standardDomain maps the long name of the standard domain to the short one.
func standardDomain(domain string) string {
	if domain == "ai.onnx" {
		return ""
	}
	return domain
}

// constant is the gradient of an operator whose output does not change with
// small changes of its inputs, or only at isolated points.
func constant(*Context, []string) ([]string, error) { return nil, nil }

func init() {
	for _, op := range []string{
		"ArgMax", "ArgMin", "Ceil", "Constant", "ConstantOfShape", "EyeLike",
		"Floor", "IsInf", "IsNaN", "NonZero", "OneHot", "Range", "Round",
		"Shape", "Sign", "Size",
	} {
		Register("", op, constant)
	}
}

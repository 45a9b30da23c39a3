package grad

import (
	"slices"

	"galley/onnx"
)

func init() {
	Register("", "SoftmaxCrossEntropyLoss", crossEntropyGrad)
	Register("", "NegativeLogLikelihoodLoss", likelihoodGrad)
}

// scores [N, C, ...], labels [N, ...]: dscores is the probabilities less 1 at
// the label, times each position's factor.
func crossEntropyGrad(c *Context, dy []string) ([]string, error) {
	if !c.Needs(0) {
		return nil, c.noWeightGradient()
	}
	p := c.Op("Exp", c.WantOut(1))
	var dx string
	if dy[0] != "" {
		t := c.labelTerms()
		factor := c.factor(t, dy[0])
		scaled := c.Op("Mul", p, c.Op("Unsqueeze", factor, c.Ints(1)))
		dx = c.subtractAtLabels(scaled, t, factor)
	}
	if len(dy) > 1 && dy[1] != "" {
		sum := c.reduceSum(dy[1], []int64{1}, true)
		g := c.Op("Sub", dy[1], c.Op("Mul", p, sum))
		if dx != "" {
			g = c.Op("Add", dx, g)
		}
		dx = g
	}
	return []string{dx}, c.noWeightGradient()
}

// logp [N, C, ...]: the gradient is minus the factor at the label.
func likelihoodGrad(c *Context, dy []string) ([]string, error) {
	if !c.Needs(0) {
		return nil, c.noWeightGradient()
	}
	t := c.labelTerms()
	return []string{c.subtractAtLabels(c.zeros(c.In(0)), t, c.factor(t, dy[0]))}, c.noWeightGradient()
}

func (c *Context) noWeightGradient() error {
	if c.Needs(2) {
		return c.Errorf("class weights have no gradient; take them out of Wrt")
	}
	return nil
}

func (c *Context) subtractAtLabels(v string, t labelTerms, factor string) string {
	one := c.Ints(1)
	return c.OpAttrs("ScatterElements", map[string]onnx.Attr{"axis": int64(1), "reduction": "add"},
		v, c.Op("Unsqueeze", t.labels, one), c.Op("Unsqueeze", c.Op("Neg", factor), one))
}

// factor is what the negative log-likelihood of each position is multiplied
// with on its way to the loss, times dy; of the labels' shape.
func (c *Context) factor(t labelTerms, dy string) string {
	if c.Node.AttrString("reduction", "mean") == "mean" {
		dy = c.Op("Div", dy, c.totalWeight(t))
	}
	if t.weights == "" {
		return c.Op("Expand", dy, c.ShapeOf(c.In(1)))
	}
	return c.Op("Mul", t.weights, dy)
}

// labelTerms are the labels with the ignored ones replaced by class 0, and
// each position's weight, 0 if it is ignored; "" if all weights are 1.
type labelTerms struct{ labels, weights string }

func (c *Context) labelTerms() labelTerms {
	labels := c.In(1)
	t := labelTerms{labels: labels}
	ignored := ""
	if index, ok := c.Node.Attrs["ignore_index"].(int64); ok {
		zero, ignore := c.Builder.Int(0), c.Builder.Int(index)
		if c.Type(labels) == onnx.Int32 {
			to := map[string]onnx.Attr{"to": int64(onnx.Int32)}
			zero, ignore = c.OpAttrs("Cast", to, zero), c.OpAttrs("Cast", to, ignore)
		}
		ignored = c.Op("Equal", labels, ignore)
		t.labels = c.Op("Where", ignored, zero, labels)
		t.weights = c.castBool(c.Op("Not", ignored))
	}
	if weights := c.In(2); weights != "" {
		w := c.Op("Gather", weights, t.labels)
		if ignored != "" {
			w = c.Op("Mul", w, t.weights)
		}
		t.weights = w
	}
	return t
}

// totalWeight is the divisor of reduction mean.
func (c *Context) totalWeight(t labelTerms) string {
	if t.weights == "" {
		return c.OpAttrs("Cast", map[string]onnx.Attr{"to": int64(c.elementType())}, c.Op("Size", t.labels))
	}
	return c.OpAttrs("ReduceSum", map[string]onnx.Attr{"keepdims": int64(0)}, t.weights)
}

// lowerLosses writes the losses out: ONNX Runtime has no kernel for them, and
// would expand them into more nodes than these.
func (d *differentiator) lowerLosses() error {
	g := d.model.Graph
	c := &Context{Builder: d.builder, d: d}
	for i := 0; i < len(g.Nodes); i++ {
		n := g.Nodes[i]
		if n.Domain != "" || n.Op != "SoftmaxCrossEntropyLoss" && n.Op != "NegativeLogLikelihoodLoss" {
			continue
		}
		tail := len(g.Nodes)
		c.Node = n
		c.lowerLoss()
		lowered := slices.Clone(g.Nodes[tail:])
		g.Nodes = slices.Replace(g.Nodes[:tail], i, i+1, lowered...)
		i += len(lowered) - 1
	}
	return nil
}

// lowerLoss appends nodes that compute the outputs of the loss node.
func (c *Context) lowerLoss() {
	logp := c.In(0)
	if c.Node.Op == "SoftmaxCrossEntropyLoss" {
		logp = c.WantOut(1)
		c.into(logp, "LogSoftmax", map[string]onnx.Attr{"axis": int64(1)}, c.In(0))
	}
	one := c.Ints(1)
	t := c.labelTerms()
	picked := c.OpAttrs("GatherElements", map[string]onnx.Attr{"axis": int64(1)}, logp, c.Op("Unsqueeze", t.labels, one))
	losses := c.Op("Neg", c.Op("Squeeze", picked, one))
	if t.weights != "" {
		losses = c.Op("Mul", losses, t.weights)
	}
	scalar := map[string]onnx.Attr{"keepdims": int64(0)}
	switch c.Node.AttrString("reduction", "mean") {
	case "none":
		c.into(c.Out(0), "Identity", nil, losses)
	case "sum":
		c.into(c.Out(0), "ReduceSum", scalar, losses)
	default:
		c.into(c.Out(0), "Div", nil, c.OpAttrs("ReduceSum", scalar, losses), c.totalWeight(t))
	}
}

// into appends a node whose output has a given name.
func (c *Context) into(out, op string, attrs map[string]onnx.Attr, inputs ...string) {
	c.Graph.Nodes = append(c.Graph.Nodes, &onnx.Node{
		Name: c.Name(op), Op: op, Attrs: attrs, Inputs: inputs, Outputs: []string{out},
	})
}

package onnx

import "fmt"

// The operators with subgraphs. Loop and Scan stay with the types that their
// bodies declare, since shapes may change from turn to turn.
func init() {
	// Not part of the variable inferRules: these rules walk graphs by it.
	inferRules[std("If")] = inferIf
	inferRules[std("Loop")] = inferLoop
	inferRules[std("Scan")] = inferScan
}

// inferIf joins what both branches give; where they differ, nothing is known.
func inferIf(c *inferContext) error {
	then, err := c.branch("then_branch")
	if err != nil {
		return err
	}
	other, err := c.branch("else_branch")
	if err != nil {
		return err
	}
	if cond := c.inElems(0); len(cond) == 1 && cond[0].known {
		// Only one branch can be taken; both must fit all the same.
		if cond[0].value != 0 {
			other = then
		} else {
			then = other
		}
	}
	for i := range c.outs {
		a, b := then[i], other[i]
		if a.Type == b.Type {
			c.set(i, a.Type, commonShape(a.Shape, b.Shape))
		}
	}
	return nil
}

// commonShape keeps what two shapes have in common.
func commonShape(a, b Shape) Shape {
	if a == nil || b == nil || len(a) != len(b) {
		return nil
	}
	out := make(Shape, len(a))
	for i := range a {
		out[i] = unknownDim
		if a[i] == b[i] {
			out[i] = a[i]
		}
	}
	return out
}

// branch infers a subgraph and returns its outputs, one for each of the
// node's.
func (c *inferContext) branch(name string) ([]Value, error) {
	g, ok := c.Attrs[name].(*Graph)
	if !ok {
		return nil, fmt.Errorf("has no graph %s", name)
	}
	if len(g.Outputs) != len(c.outs) {
		return nil, fmt.Errorf("%s has %d outputs for %d of the node", name, len(g.Outputs), len(c.outs))
	}
	t, err := c.in.graph(g, c.scope, c.depth+1)
	if err != nil {
		return nil, err
	}
	out := make([]Value, len(g.Outputs))
	for i, v := range g.Outputs {
		out[i] = v
		if found := t.find(v.Name); found != nil {
			out[i] = found.Value
		}
	}
	return out, nil
}

// inferLoop has outputs: the carried values, then one stack per scan output.
func inferLoop(c *inferContext) error {
	body, ok := c.Attrs["body"].(*Graph)
	if !ok {
		return fmt.Errorf("has no graph body")
	}
	if _, err := c.in.graph(body, c.scope, c.depth+1); err != nil {
		return err
	}
	carried := max(len(c.Inputs)-2, 0)
	for i := range c.outs {
		if 1+i >= len(body.Outputs) {
			return fmt.Errorf("body has %d outputs for %d of the node", len(body.Outputs), len(c.outs))
		}
		v := body.Outputs[1+i]
		if i < carried {
			c.set(i, v.Type, nil)
		} else if v.Shape != nil {
			c.set(i, v.Type, append(Shape{unknownDim}, v.Shape...))
		} else {
			c.set(i, v.Type, nil)
		}
	}
	return nil
}

func inferScan(c *inferContext) error {
	body, ok := c.Attrs["body"].(*Graph)
	if !ok {
		return fmt.Errorf("has no graph body")
	}
	if _, err := c.in.graph(body, c.scope, c.depth+1); err != nil {
		return err
	}
	for i := range c.outs {
		if i >= len(body.Outputs) {
			return fmt.Errorf("body has %d outputs for %d of the node", len(body.Outputs), len(c.outs))
		}
		c.set(i, body.Outputs[i].Type, nil)
	}
	return nil
}

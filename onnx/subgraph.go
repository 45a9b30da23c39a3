package onnx

import "slices"

// Subgraph cuts out of g what the given values need: a graph with them as
// outputs and, of g's inputs and initializers, those that they depend on. A
// head is replaced by cutting before it and building on. Structure is copied,
// the bytes of tensors are shared.
//
// An output's Type and Shape are taken as given; Types.Lookup has them.
func Subgraph(g *Graph, outputs ...Value) (*Graph, error) {
	needed := make(map[string]bool, len(outputs))
	for _, v := range outputs {
		if !g.defines(v.Name) {
			return nil, invalid("graph "+quote(g.Name), "has no value %s to cut at", quote(v.Name))
		}
		if needed[v.Name] {
			return nil, invalid("graph "+quote(g.Name), "is cut at %s twice", quote(v.Name))
		}
		needed[v.Name] = true
	}
	out := g.Clone()
	out.Outputs = cloneValues(outputs)
	out.prune(needed)
	out.Inputs = slices.DeleteFunc(out.Inputs, func(v Value) bool { return !needed[v.Name] })
	out.Values = slices.DeleteFunc(out.Values, func(v Value) bool {
		return slices.ContainsFunc(outputs, func(o Value) bool { return o.Name == v.Name })
	})
	return out, nil
}

// InitializersToInputs makes the named initializers inputs of g, after the
// ones it has, and returns their tensors in the same order: the form in which
// weights are fed from outside.
func InitializersToInputs(g *Graph, names ...string) ([]*Tensor, error) {
	at := make(map[string]*Tensor, len(g.Initializers))
	for _, t := range g.Initializers {
		at[t.Name] = t
	}
	moved := make(map[string]bool, len(names))
	tensors := make([]*Tensor, 0, len(names))
	for _, name := range names {
		t := at[name]
		if t == nil || moved[name] {
			return nil, invalid("graph "+quote(g.Name), "has no initializer %s to make an input", quote(name))
		}
		moved[name] = true
		tensors = append(tensors, t)
	}
	for _, t := range tensors {
		g.Inputs = append(g.Inputs, Value{Name: t.Name, Type: t.Type, Shape: t.Shape()})
	}
	g.Initializers = slices.DeleteFunc(slices.Clone(g.Initializers), func(t *Tensor) bool { return moved[t.Name] })
	return tensors, nil
}

// InputToInitializer fixes the input of t's name to t; the tensor must fit
// the input's type and shape.
func InputToInitializer(g *Graph, t *Tensor) error {
	i := slices.IndexFunc(g.Inputs, func(v Value) bool { return v.Name == t.Name })
	if i < 0 {
		return invalid("graph "+quote(g.Name), "has no input %s to fix", quote(t.Name))
	}
	if err := t.check(); err != nil {
		return err
	}
	in := g.Inputs[i]
	_, fits := mergeShapes(in.Shape, t.Shape())
	if !fits || in.Type != Undefined && in.Type != t.Type {
		return invalid("input "+quote(t.Name), "is %v %v and cannot hold %v %v", in.Type, in.Shape, t.Type, t.Shape())
	}
	g.Inputs = slices.Delete(slices.Clone(g.Inputs), i, i+1)
	g.Initializers = append(g.Initializers, t)
	return nil
}

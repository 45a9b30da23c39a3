package onnx

import "slices"

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

package onnx

import (
	"maps"
	"slices"
)

// Clone copies a model so that passes may change the copy's structure; the
// bytes of tensors are shared.
func (m *Model) Clone() *Model {
	c := *m
	c.Opsets = maps.Clone(m.Opsets)
	c.Metadata = maps.Clone(m.Metadata)
	if m.Graph != nil {
		c.Graph = m.Graph.Clone()
	}
	c.Functions = nil
	for _, f := range m.Functions {
		c.Functions = append(c.Functions, f.clone())
	}
	return &c
}

// Clone copies a graph; the bytes of tensors are shared.
func (g *Graph) Clone() *Graph {
	c := *g
	c.Inputs, c.Outputs, c.Values = cloneValues(g.Inputs), cloneValues(g.Outputs), cloneValues(g.Values)
	c.Nodes = cloneNodes(g.Nodes)
	c.Initializers = nil
	for _, t := range g.Initializers {
		c.Initializers = append(c.Initializers, t.Clone())
	}
	c.Metadata = maps.Clone(g.Metadata)
	return &c
}

// Clone copies a node with its subgraphs.
func (n *Node) Clone() *Node {
	c := *n
	c.Inputs, c.Outputs = slices.Clone(n.Inputs), slices.Clone(n.Outputs)
	c.Attrs = cloneAttrs(n.Attrs)
	c.Metadata = maps.Clone(n.Metadata)
	return &c
}

// Clone copies a tensor; its bytes and strings are shared.
func (t *Tensor) Clone() *Tensor {
	c := *t
	c.Dims = slices.Clone(t.Dims)
	return &c
}

func (f *Function) clone() *Function {
	c := *f
	c.Inputs, c.Outputs, c.Attrs = slices.Clone(f.Inputs), slices.Clone(f.Outputs), slices.Clone(f.Attrs)
	c.Defaults = cloneAttrs(f.Defaults)
	c.Nodes = cloneNodes(f.Nodes)
	c.Values = cloneValues(f.Values)
	c.Opsets = maps.Clone(f.Opsets)
	c.Metadata = maps.Clone(f.Metadata)
	return &c
}

func cloneNodes(nodes []*Node) []*Node {
	var out []*Node
	for _, n := range nodes {
		out = append(out, n.Clone())
	}
	return out
}

func cloneValues(values []Value) []Value {
	out := slices.Clone(values)
	for i := range out {
		out[i].Shape = slices.Clone(out[i].Shape)
		out[i].Metadata = maps.Clone(out[i].Metadata)
	}
	return out
}

func cloneAttrs(attrs map[string]Attr) map[string]Attr {
	out := maps.Clone(attrs)
	for name, a := range out {
		switch a := a.(type) {
		case []int64:
			out[name] = slices.Clone(a)
		case []float32:
			out[name] = slices.Clone(a)
		case []string:
			out[name] = slices.Clone(a)
		case *Tensor:
			out[name] = a.Clone()
		case []*Tensor:
			list := make([]*Tensor, len(a))
			for i, t := range a {
				list[i] = t.Clone()
			}
			out[name] = list
		case *Graph:
			out[name] = a.Clone()
		case []*Graph:
			list := make([]*Graph, len(a))
			for i, g := range a {
				list[i] = g.Clone()
			}
			out[name] = list
		}
	}
	return out
}

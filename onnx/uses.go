package onnx

import "slices"

// Producers maps each value that a node of g writes to the node.
func (g *Graph) Producers() map[string]*Node {
	out := make(map[string]*Node, len(g.Nodes))
	for _, n := range g.Nodes {
		for _, o := range n.Outputs {
			if o != "" {
				out[o] = n
			}
		}
	}
	return out
}

// Consumers maps each value to the nodes of g that read it, themselves or in
// a subgraph of theirs, once each and in order. Graph outputs are not among
// them.
func (g *Graph) Consumers() map[string][]*Node {
	out := map[string][]*Node{}
	for _, n := range g.Nodes {
		for _, name := range n.reads() {
			if name == "" {
				continue
			}
			if list := out[name]; len(list) == 0 || list[len(list)-1] != n {
				out[name] = append(list, n)
			}
		}
	}
	return out
}

// Initializer returns the initializer of that name, or nil.
func (g *Graph) Initializer(name string) *Tensor {
	for _, t := range g.Initializers {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// ReplaceUses makes all nodes of g, and of its subgraphs, read by instead of
// value, and reports how many inputs changed. Graph outputs keep their name;
// Rename changes those.
func ReplaceUses(g *Graph, value, by string) int {
	count := 0
	for _, n := range g.Nodes {
		for i, in := range n.Inputs {
			if in == value && value != "" {
				n.Inputs[i] = by
				count++
			}
		}
		n.eachGraph(func(sub *Graph) {
			count += ReplaceUses(sub, value, by)
			for i := range sub.Outputs { // a captured value handed out as it is
				if sub.Outputs[i].Name == value && !sub.defines(value) {
					sub.Outputs[i].Name = by
					count++
				}
			}
		})
	}
	return count
}

// Rename changes the name of a value wherever it stands: as input,
// initializer, output of a node or of the graph, and in all uses. It is an
// error if there is no such value or the new name is taken.
func Rename(g *Graph, from, to string) error {
	if from == to {
		return nil
	}
	if !g.defines(from) {
		return invalid("graph "+quote(g.Name), "has no value %s to rename", quote(from))
	}
	if to == "" || g.mentions(to) {
		return invalid("graph "+quote(g.Name), "value %s cannot be renamed to %s: the name is taken", quote(from), quote(to))
	}
	for _, list := range [][]Value{g.Inputs, g.Outputs, g.Values} {
		for i := range list {
			if list[i].Name == from {
				list[i].Name = to
			}
		}
	}
	if i := slices.IndexFunc(g.Initializers, func(t *Tensor) bool { return t.Name == from }); i >= 0 {
		t := *g.Initializers[i] // the tensor may be shared with a clone
		t.Name = to
		g.Initializers[i] = &t
	}
	for _, n := range g.Nodes {
		for i, o := range n.Outputs {
			if o == from {
				n.Outputs[i] = to
			}
		}
	}
	ReplaceUses(g, from, to)
	return nil
}

// defines reports whether a value is written in g itself.
func (g *Graph) defines(name string) bool {
	if slices.ContainsFunc(g.Inputs, func(v Value) bool { return v.Name == name }) || g.Initializer(name) != nil {
		return true
	}
	return slices.ContainsFunc(g.Nodes, func(n *Node) bool { return slices.Contains(n.Outputs, name) })
}

// mentions reports whether a name is used for a value in g or its subgraphs.
func (g *Graph) mentions(name string) bool {
	if g.defines(name) {
		return true
	}
	for _, n := range g.Nodes {
		found := slices.Contains(n.Inputs, name)
		n.eachGraph(func(sub *Graph) { found = found || sub.mentions(name) })
		if found {
			return true
		}
	}
	return false
}

// eachGraph calls f for the node's subgraphs in the order of attribute names.
func (n *Node) eachGraph(f func(*Graph)) {
	if !n.hasGraphs() {
		return
	}
	graphs := n.Graphs()
	for _, name := range sortedKeys(graphs) {
		for _, g := range graphs[name] {
			f(g)
		}
	}
}

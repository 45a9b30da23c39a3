package onnx

import "slices"

// RemoveUnused drops the nodes of which no output is needed, the
// initializers that nothing reads, and what is known of values that are gone;
// in subgraphs too. Inputs and outputs of g stay. It reports how many nodes
// and initializers went. Nodes must be in topological order.
func RemoveUnused(g *Graph) (nodes, initializers int) {
	needed := make(map[string]bool, len(g.Outputs))
	for _, v := range g.Outputs {
		needed[v.Name] = true
	}
	kept := make([]*Node, 0, len(g.Nodes))
	for _, n := range slices.Backward(g.Nodes) {
		if !slices.ContainsFunc(n.Outputs, func(o string) bool { return o != "" && needed[o] }) {
			nodes++
			continue
		}
		n.eachGraph(func(sub *Graph) {
			a, b := RemoveUnused(sub)
			nodes, initializers = nodes+a, initializers+b
		})
		for _, name := range n.reads() {
			needed[name] = true
		}
		kept = append(kept, n)
	}
	slices.Reverse(kept)
	g.Nodes = kept
	before := len(g.Initializers)
	g.Initializers = slices.DeleteFunc(slices.Clone(g.Initializers), func(t *Tensor) bool { return !needed[t.Name] })
	initializers += before - len(g.Initializers)
	g.Values = slices.DeleteFunc(slices.Clone(g.Values), func(v Value) bool { return !needed[v.Name] })
	return nodes, initializers
}

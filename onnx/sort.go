package onnx

import "fmt"

// TopologicalSort puts the nodes of g and of its subgraphs in an order in
// which each follows those it reads from; nodes that are free keep their
// order. A cycle is an error that names it.
func TopologicalSort(g *Graph) error {
	sorted, cycle := sortNodes(g.Nodes)
	if cycle != nil {
		return cycleError(cycle)
	}
	g.Nodes = sorted
	for _, n := range g.Nodes {
		for _, graphs := range n.Graphs() {
			for _, sub := range graphs {
				if err := TopologicalSort(sub); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// reads lists the values a node reads, those that its subgraphs take from
// outside among them.
func (n *Node) reads() []string {
	if !n.hasGraphs() {
		return n.Inputs
	}
	out := append([]string{}, n.Inputs...)
	for _, name := range sortedKeys(n.Graphs()) {
		for _, g := range n.Graphs()[name] {
			out = append(out, g.captures()...)
		}
	}
	return out
}

func (n *Node) hasGraphs() bool {
	for _, a := range n.Attrs {
		switch a.(type) {
		case *Graph, []*Graph:
			return true
		}
	}
	return false
}

// captures lists the values that a subgraph reads from the graphs around it.
func (g *Graph) captures() []string {
	own := map[string]bool{"": true}
	for _, v := range g.Inputs {
		own[v.Name] = true
	}
	for _, t := range g.Initializers {
		own[t.Name] = true
	}
	for _, n := range g.Nodes {
		for _, o := range n.Outputs {
			own[o] = true
		}
	}
	var out []string
	take := func(name string) {
		if !own[name] {
			own[name] = true
			out = append(out, name)
		}
	}
	for _, n := range g.Nodes {
		for _, name := range n.reads() {
			take(name)
		}
	}
	for _, v := range g.Outputs {
		take(v.Name)
	}
	return out
}

// sortNodes orders nodes by depth-first search without recursion. If that is
// impossible it returns a cycle, each node reading from the one before.
func sortNodes(nodes []*Node) (sorted, cycle []*Node) {
	producer := make(map[string]int, len(nodes))
	for i, n := range nodes {
		for _, o := range n.Outputs {
			if o != "" {
				producer[o] = i
			}
		}
	}
	const (
		fresh = iota
		open
		done
	)
	state := make([]int8, len(nodes))
	type frame struct {
		node  int
		reads []string
	}
	sorted = make([]*Node, 0, len(nodes))
	for i := range nodes {
		if state[i] != fresh {
			continue
		}
		state[i] = open
		stack := []frame{{i, nodes[i].reads()}}
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if len(top.reads) == 0 {
				state[top.node] = done
				sorted = append(sorted, nodes[top.node])
				stack = stack[:len(stack)-1]
				continue
			}
			name := top.reads[0]
			top.reads = top.reads[1:]
			p, ok := producer[name]
			if !ok || name == "" {
				continue
			}
			switch state[p] {
			case fresh:
				state[p] = open
				stack = append(stack, frame{p, nodes[p].reads()})
			case open:
				for j := len(stack) - 1; j >= 0; j-- {
					cycle = append(cycle, nodes[stack[j].node])
					if stack[j].node == p {
						return nil, cycle
					}
				}
			}
		}
	}
	return sorted, nil
}

// maxCycleShown bounds how many nodes of a cycle a message lists.
const maxCycleShown = 8

func cycleError(cycle []*Node) error {
	path := ""
	for i, n := range cycle {
		if i == maxCycleShown {
			path += fmt.Sprintf("and %d more -> ", len(cycle)-i)
			break
		}
		path += n.label() + " -> "
	}
	return invalid(cycle[0].label(), "is part of a cycle: %s%s", path, cycle[0].label())
}

// orderError explains why node n, which failed its check, cannot read its
// inputs, if the reason is the order of nodes; otherwise it is nil.
func orderError(n *Node, nodes []*Node, scope *names) error {
	late := ""
	for _, name := range n.reads() {
		if name != "" && !scope.has(name) {
			late = name
			break
		}
	}
	if late == "" {
		return nil
	}
	for _, m := range nodes {
		for _, o := range m.Outputs {
			if o != late {
				continue
			}
			if _, cycle := sortNodes(nodes); cycle != nil {
				return cycleError(cycle)
			}
			return invalid(n.label(), "input %s is written only later, by %s", quote(late), m.label()).
				WithRemedy("nodes must be in topological order")
		}
	}
	return nil
}

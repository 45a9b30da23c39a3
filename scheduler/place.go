package scheduler

import (
	"cmp"
	"slices"
)

// fits reports whether the gang has a place in room.
func (p *planner) fits(s shape, room []Resources) bool {
	need := s.pods
	for _, r := range room {
		if need -= r.count(s.pod, need); need == 0 {
			return true
		}
	}
	return false
}

// place chooses a node for each pod of the gang, or returns nil. A single pod
// goes where it leaves least over, a gang on as few nodes as may be; what needs
// no GPU goes to nodes without, if it can.
func (p *planner) place(s shape, room []Resources) []int {
	if s.pods == 1 {
		best, least := -1, 0.0
		for i, r := range room {
			if !r.holds(s.pod) {
				continue
			}
			over := p.rest(r.minus(s.pod)) + p.waste(i, s)
			if best < 0 || over < least {
				best, least = i, over
			}
		}
		if best < 0 {
			return nil
		}
		return []int{best}
	}
	type candidate struct {
		node  int
		pods  int64
		waste float64
	}
	var candidates []candidate
	sum := int64(0)
	for i, r := range room {
		if n := r.count(s.pod, s.pods); n > 0 {
			candidates = append(candidates, candidate{i, n, p.waste(i, s)})
			sum = min(s.pods, sum+n)
		}
	}
	if sum < s.pods {
		return nil
	}
	slices.SortFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.waste, b.waste), cmp.Compare(b.pods, a.pods), cmp.Compare(a.node, b.node))
	})
	nodes := make([]int, 0, s.pods)
	for _, c := range candidates {
		for range min(c.pods, s.pods-int64(len(nodes))) {
			nodes = append(nodes, c.node)
		}
	}
	return nodes
}

// rest weighs what is left over on a node.
func (p *planner) rest(r Resources) float64 {
	sum := 0.0
	for k, total := range p.total {
		if total > 0 {
			sum += float64(r[k]) / float64(total)
		}
	}
	return sum
}

// waste keeps nodes with GPUs for those who need one.
func (p *planner) waste(i int, s shape) float64 {
	if s.pod[GPU] == 0 && p.nodes[i].Capacity[GPU] > 0 {
		return float64(len(Kinds)) + 1 // more than any rest
	}
	return 0
}

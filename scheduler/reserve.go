package scheduler

import (
	"cmp"
	"container/heap"
	"slices"
)

// keepReservation gives the reservation to who had it, if it is of this rank:
// it starts if it can.
func (p *planner) keepReservation(jobs []*job) {
	if p.reserved == nil {
		return
	}
	for _, j := range jobs {
		if j.ID != p.reserved.Job || !j.tenant.left.holds(j.all()) {
			continue
		}
		if nodes := p.place(j.shape, p.room); nodes != nil {
			p.start(j, nodes)
		} else {
			p.hold(j)
		}
		return
	}
}

// hold gives a blocked job the reservation: makes room for it if that is
// right, and takes what it claims from the room of the others.
func (p *planner) hold(j *job) {
	claim, kept := p.kept(j)
	p.holder = j
	for _, v := range p.victims(j) {
		kept = false
		v.Leaving = true
		for _, i := range v.nodes {
			n := &p.nodes[i]
			n.used, n.leaving = n.used.minus(v.pod), n.leaving.plus(v.pod)
		}
		p.plan.Preempt = append(p.plan.Preempt, Preemption{Job: v.ID, For: j.ID})
	}
	p.plan.Reserved = p.reserved
	if !kept {
		claim = p.claim(j.shape)
		p.plan.Reserved = &Claim{Job: j.ID, Since: p.starts}
		for i, pods := range claim {
			p.nodes[i].passed = Resources{}
			for range pods {
				p.plan.Reserved.Nodes = append(p.plan.Reserved.Nodes, p.nodes[i].ID)
			}
		}
	}
	for i, pods := range claim {
		if pods > 0 {
			p.room[i] = p.room[i].least(p.nodes[i].beside(j.pod.times(pods)))
		}
	}
	j.tenant.keep(j.all())
}

// beside is how much of a node others may use beside a claim. Where the claim
// would fit now, it stays so; elsewhere it waits for the jobs that were there
// before it, and what starts meanwhile must leave it room once they are gone.
func (n *node) beside(claim Resources) (r Resources) {
	for k := range r {
		r[k] = n.Capacity[k] - n.used[k] - claim[k]
		if r[k] < 0 {
			r[k] = max(0, n.Capacity[k]-n.passed[k]-claim[k])
		}
	}
	return r
}

// kept returns the claim that j had before, as pods of each node, if it had
// one that its nodes can still hold.
func (p *planner) kept(j *job) (pods []int64, ok bool) {
	if p.reserved == nil || p.reserved.Job != j.ID || int64(len(p.reserved.Nodes)) != j.pods {
		return nil, false
	}
	pods = make([]int64, len(p.nodes))
	for _, id := range p.reserved.Nodes {
		i, found := slices.BinarySearchFunc(p.nodes, id, func(n node, id string) int { return cmp.Compare(n.ID, id) })
		if !found {
			return nil, false
		}
		pods[i]++
	}
	for i, n := range pods {
		if p.nodes[i].Capacity.count(j.pod, n) < n {
			return nil, false
		}
	}
	return pods, true
}

// claim chooses how many pods of the gang each node shall get: those nodes
// where the least has to end first, the first by ID among equals. The gang
// fits on the empty nodes.
func (p *planner) claim(s shape) []int64 {
	var h marginals
	for i := range p.nodes {
		if most := p.nodes[i].Capacity.count(s.pod, s.pods); most > 0 {
			h = append(h, marginal{node: i, pods: 1, most: most, cost: p.excess(i, s, 1)})
		}
	}
	heap.Init(&h)
	out := make([]int64, len(p.nodes))
	for range s.pods {
		m := &h[0]
		out[m.node]++
		if m.pods == m.most {
			heap.Pop(&h)
			continue
		}
		// What has to end is convex in the number of pods, so the cheapest
		// next pod is always the right one.
		m.pods++
		m.cost = p.excess(m.node, s, m.pods) - p.excess(m.node, s, m.pods-1)
		heap.Fix(&h, 0)
	}
	return out
}

// excess is how much has to end on a node before it can hold so many pods,
// as a share of the total.
func (p *planner) excess(i int, s shape, pods int64) float64 {
	n := &p.nodes[i]
	sum := 0.0
	for k, total := range p.total {
		if over := n.used[k] + pods*s.pod[k] - n.Capacity[k]; over > 0 && s.pod[k] > 0 {
			sum += float64(over) / float64(total)
		}
	}
	return sum
}

// A marginal is what one more pod on a node costs.
type marginal struct {
	node       int
	pods, most int64
	cost       float64
}

type marginals []marginal

func (m marginals) Len() int { return len(m) }
func (m marginals) Less(i, j int) bool {
	return m[i].cost < m[j].cost || m[i].cost == m[j].cost && m[i].node < m[j].node
}
func (m marginals) Swap(i, j int) { m[i], m[j] = m[j], m[i] }
func (m *marginals) Push(x any)   { *m = append(*m, x.(marginal)) }
func (m *marginals) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}

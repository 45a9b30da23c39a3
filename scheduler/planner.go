package scheduler

import (
	"cmp"
	"slices"
)

// Schedule makes the plan for a snapshot.
func Schedule(s Snapshot) Plan {
	p := newPlanner(s)
	for i := 0; i < len(p.queue); {
		n := i + 1
		for n < len(p.queue) && p.queue[n].Rank() == p.queue[i].Rank() {
			n++
		}
		p.class(p.queue[i:n])
		i = n
	}
	return p.finish()
}

// A shape is what decides where a job fits.
type shape struct {
	pods int64
	pod  Resources
}

func (s shape) all() Resources { return s.pod.times(s.pods) }

type job struct {
	Job
	shape
	tenant *tenant
	nodes  []int // once started: of each pod
	wait   Waiting
}

type running struct {
	Running
	shape
	tenant *tenant
	nodes  []int // of its pods that are on known nodes
}

type node struct {
	Node
	used    Resources // by running jobs that stay
	leaving Resources // by those that were asked to end
	passed  Resources // part of used: by jobs that started after the claim was made
}

// free is what can be used now.
func (n *node) free() Resources { return n.Capacity.minus(n.used).minus(n.leaving) }

type tenant struct {
	Tenant
	limited bool
	used    Resources
	left    Resources // of the quota, for who comes next
}

type planner struct {
	nodes    []node
	total    Resources
	tenants  map[string]*tenant
	running  []*running
	queue    []*job // who may start, in order
	held     []*job // who may not
	reserved *Claim

	holder *job
	room   []Resources    // on each node, for who is not the holder
	tight  map[shape]bool // shapes that room has no place for: it only shrinks
	plan   Plan

	started []*job
	starts  int64 // the last that there was
	named   map[usersKey][]string
}

// A usersKey asks who uses a kind: of a tenant, or of all.
type usersKey struct {
	kind   Kind
	tenant *tenant
}

func newPlanner(s Snapshot) *planner {
	p := &planner{tenants: map[string]*tenant{}, tight: map[shape]bool{}, named: map[usersKey][]string{}, reserved: s.Reserved}
	index := map[string]int{}
	for _, n := range slices.SortedFunc(slices.Values(s.Nodes), func(a, b Node) int { return cmp.Compare(a.ID, b.ID) }) {
		n.Capacity = n.Capacity.positive()
		index[n.ID] = len(p.nodes)
		p.nodes = append(p.nodes, node{Node: n})
		p.total = p.total.plus(n.Capacity)
	}
	for _, t := range s.Tenants {
		p.tenants[t.Name] = &tenant{Tenant: t}
	}
	started := map[string]bool{}
	for _, r := range slices.SortedFunc(slices.Values(s.Running), func(a, b Running) int { return cmp.Compare(a.ID, b.ID) }) {
		started[r.ID] = true
		x := &running{Running: r, shape: shapeOf(r.Job), tenant: p.tenant(r.Tenant)}
		x.tenant.used = x.tenant.used.plus(x.all())
		for _, id := range r.Nodes {
			i, ok := index[id]
			if !ok {
				continue
			}
			x.nodes = append(x.nodes, i)
			n := &p.nodes[i]
			if r.Leaving {
				n.leaving = n.leaving.plus(x.pod)
				continue
			}
			n.used = n.used.plus(x.pod)
			if s.Reserved != nil && r.Started > s.Reserved.Since {
				n.passed = n.passed.plus(x.pod)
			}
		}
		p.running = append(p.running, x)
		p.starts = max(p.starts, r.Started)
	}
	p.room = make([]Resources, len(p.nodes))
	for i := range p.nodes {
		p.room[i] = p.nodes[i].free()
	}
	p.enqueue(s.Queued, started)
	for _, t := range p.tenants {
		t.limited = t.Quota != Resources{}
		t.left = t.unused()
	}
	return p
}

func shapeOf(j Job) shape { return shape{pods: int64(max(1, j.Pods)), pod: j.Pod.positive()} }

func (p *planner) tenant(name string) *tenant {
	t := p.tenants[name]
	if t == nil {
		t = &tenant{Tenant: Tenant{Name: name}}
		p.tenants[name] = t
	}
	return t
}

// enqueue sorts the jobs that wait into those that may start and the others.
func (p *planner) enqueue(jobs []Job, started map[string]bool) {
	fits := map[shape]bool{}
	empty := make([]Resources, len(p.nodes))
	for i, n := range p.nodes {
		empty[i] = n.Capacity
	}
	sorted := make([]*job, 0, len(jobs))
	for _, j := range jobs {
		sorted = append(sorted, &job{Job: j, shape: shapeOf(j), tenant: p.tenant(j.Tenant), wait: Waiting{Job: j.ID}})
	}
	slices.SortFunc(sorted, func(a, b *job) int {
		return cmp.Or(cmp.Compare(b.Rank(), a.Rank()), cmp.Compare(a.Submitted, b.Submitted), cmp.Compare(a.ID, b.ID))
	})
	for _, j := range sorted {
		if started[j.ID] {
			continue // it runs already, or is listed twice
		}
		started[j.ID] = true
		if _, known := fits[j.shape]; !known {
			fits[j.shape] = p.fits(j.shape, empty)
		}
		switch {
		case len(j.Needs) > 0:
			j.wait.Reason, j.wait.By = Dependency, j.Needs[:min(len(j.Needs), maxNamed)]
		case !j.Until.IsZero():
			j.wait.Reason, j.wait.Until = BackOff, j.Until
		case !fits[j.shape]:
			j.wait.Reason = TooLarge
			p.lacks(j, p.total)
		case !j.tenant.mayEver(j.all()):
			j.wait.Reason = OverQuota
			j.lacksQuota(j.tenant.Quota)
		default:
			p.queue = append(p.queue, j)
			continue
		}
		p.held = append(p.held, j)
	}
}

// class places the jobs of one rank.
func (p *planner) class(jobs []*job) {
	var queues []*line
	of := map[*tenant]*line{}
	for _, j := range jobs {
		if of[j.tenant] == nil {
			of[j.tenant] = &line{tenant: j.tenant}
			queues = append(queues, of[j.tenant])
		}
		of[j.tenant].jobs = append(of[j.tenant].jobs, j)
	}
	slices.SortFunc(queues, func(a, b *line) int { return cmp.Compare(a.tenant.Name, b.tenant.Name) })
	if p.holder == nil {
		p.keepReservation(jobs)
	}
	if p.holder == nil {
		if j := p.mostOwed(queues); j != nil {
			p.hold(j)
		}
	}
	for {
		var next *line
		least := 0.0
		for _, l := range queues {
			l.skip(p.holder)
			if len(l.jobs) == 0 {
				continue
			}
			share := p.share(l.tenant.used, l.tenant)
			if next == nil || share < least || share == least && l.jobs[0].before(next.jobs[0]) {
				next, least = l, share
			}
		}
		if next == nil {
			return
		}
		j := next.jobs[0]
		next.jobs = next.jobs[1:]
		p.try(j)
	}
}

// before orders jobs of the same rank.
func (j *job) before(o *job) bool {
	return j.Submitted < o.Submitted || j.Submitted == o.Submitted && j.ID < o.ID
}

// A line is a tenant's jobs of a rank.
type line struct {
	tenant *tenant
	jobs   []*job
}

// skip drops jobs at the front that are dealt with.
func (l *line) skip(holder *job) {
	for len(l.jobs) > 0 && (l.jobs[0] == holder || l.jobs[0].nodes != nil) {
		l.jobs = l.jobs[1:]
	}
}

// try starts a job if quota and room allow it.
func (p *planner) try(j *job) {
	if !j.tenant.left.holds(j.all()) {
		j.wait.Reason = Quota
		j.lacksQuota(j.tenant.unused())
		j.tenant.keep(j.all())
		return
	}
	if !p.tight[j.shape] {
		if nodes := p.place(j.shape, p.room); nodes != nil {
			p.start(j, nodes)
			return
		}
		p.tight[j.shape] = true
	}
	if p.holder == nil {
		p.hold(j)
	}
}

func (p *planner) start(j *job, nodes []int) {
	j.nodes = nodes
	s := Start{Job: j.ID}
	for _, i := range nodes {
		n := &p.nodes[i]
		n.used = n.used.plus(j.pod)
		p.room[i] = p.room[i].minus(j.pod)
		s.Nodes = append(s.Nodes, n.ID)
	}
	j.tenant.used = j.tenant.used.plus(j.all())
	j.tenant.left = j.tenant.left.minus(j.all())
	p.plan.Start = append(p.plan.Start, s)
	p.started = append(p.started, j)
}

package scheduler

import (
	"cmp"
	"slices"
	"sort"
)

// victims are the running jobs to preempt so that j fits: none if it fits
// once those have left that were asked to, or if no choice of them helps.
func (p *planner) victims(j *job) []*running {
	room := make([]Resources, len(p.nodes))
	for i := range p.nodes {
		room[i] = p.nodes[i].Capacity.minus(p.nodes[i].used)
	}
	if p.fits(j.shape, room) {
		return nil
	}
	var candidates []*running
	for _, r := range p.running {
		if r.Preemptible && !r.Leaving && r.Rank() < j.Priority && len(r.nodes) > 0 {
			candidates = append(candidates, r)
		}
	}
	slices.SortFunc(candidates, func(a, b *running) int {
		return cmp.Or(cmp.Compare(a.Rank(), b.Rank()), cmp.Compare(p.loss(a), p.loss(b)),
			cmp.Compare(b.Submitted, a.Submitted), cmp.Compare(a.ID, b.ID))
	})
	without := func(victims []*running) []Resources {
		used := make([]Resources, len(p.nodes))
		for i := range p.nodes {
			used[i] = p.nodes[i].used
		}
		for _, v := range victims {
			for _, i := range v.nodes {
				used[i] = used[i].minus(v.pod)
			}
		}
		for i := range used {
			used[i] = p.nodes[i].Capacity.minus(used[i])
		}
		return used
	}
	enough := sort.Search(len(candidates)+1, func(n int) bool { return p.fits(j.shape, without(candidates[:n])) })
	if enough > len(candidates) {
		return nil
	}
	victims := slices.Clone(candidates[:enough])
	// Those at the end are the dearest: try to spare them first. The last one
	// is needed, or there would be fewer.
	for i := len(victims) - 2; i >= 0; i-- {
		if others := slices.Delete(slices.Clone(victims), i, i+1); p.fits(j.shape, without(others)) {
			victims = others
		}
	}
	return victims
}

// loss is the work that preempting a job throws away: its size by the time.
func (p *planner) loss(r *running) float64 { return r.Lost.Seconds() * p.fraction(r.all()) }

package scheduler

import (
	"cmp"
	"slices"
)

// maxNamed bounds the jobs that a reason names.
const maxNamed = 10

// finish writes down why each job that was not started waits.
func (p *planner) finish() Plan {
	free := make([]Resources, len(p.nodes))
	var sum Resources
	for i := range p.nodes {
		free[i] = p.nodes[i].free()
		sum = sum.plus(free[i])
	}
	fits := map[shape]bool{}
	place := 0
	waiting := make([]*job, 0, len(p.queue)+len(p.held))
	for _, j := range p.queue {
		if j.nodes != nil {
			continue
		}
		place++
		j.wait.Place = place
		waiting = append(waiting, j)
		if j.wait.Reason == Quota {
			j.wait.By = p.users(j.wait.Kind, j.tenant)
			continue
		}
		fit, known := fits[j.shape]
		if !known {
			fit = p.fits(j.shape, free)
			fits[j.shape] = fit
		}
		if fit && j != p.holder {
			j.wait.Reason, j.wait.By = Reservation, []string{p.holder.ID}
			continue
		}
		j.wait.Reason = Capacity
		p.lacks(j, sum)
		j.wait.By = p.users(j.wait.Kind, nil)
	}
	waiting = append(waiting, p.held...)
	slices.SortStableFunc(waiting, func(a, b *job) int {
		return cmp.Or(cmp.Compare(b.Rank(), a.Rank()), cmp.Compare(a.Submitted, b.Submitted), cmp.Compare(a.ID, b.ID))
	})
	for _, j := range waiting {
		p.plan.Waiting = append(p.plan.Waiting, j.wait)
	}
	return p.plan
}

// lacks names the kind that a job is shortest of, if so much is free in all.
func (p *planner) lacks(j *job, free Resources) {
	all := j.all()
	worst, most := CPU, -1.0
	j.wait.Scattered = true
	for _, k := range Kinds {
		if all[k] == 0 {
			continue
		}
		if all[k] > free[k] {
			j.wait.Scattered = false
		}
		if short := float64(all[k]-free[k]) / float64(max(1, p.total[k])); most < 0 && short <= 0 || short > most {
			worst, most = k, short
		}
	}
	j.wait.Kind, j.wait.Need, j.wait.Free = worst, all[worst], free[worst]
}

// lacksQuota names the kind of which the quota has least left for the job.
func (j *job) lacksQuota(left Resources) {
	all := j.all()
	for _, k := range Kinds {
		if j.tenant.Quota[k] > 0 && all[k] > left[k] {
			j.wait.Kind, j.wait.Need, j.wait.Free = k, all[k], left[k]
			return
		}
	}
	// It fits, but beside what is kept for an older job.
	for _, k := range Kinds {
		if j.tenant.Quota[k] > 0 && all[k] > j.tenant.left[k] {
			j.wait.Kind, j.wait.Need, j.wait.Free = k, all[k], j.tenant.left[k]
			return
		}
	}
}

// users are the jobs that use most of a kind: of one tenant, or of all.
func (p *planner) users(k Kind, t *tenant) []string {
	if by, known := p.named[usersKey{k, t}]; known {
		return by
	}
	type user struct {
		id     string
		amount int64
	}
	var all []user
	for _, r := range p.running {
		if t == nil || r.tenant == t {
			all = append(all, user{r.ID, r.all()[k]})
		}
	}
	for _, s := range p.started {
		if t == nil || s.tenant == t {
			all = append(all, user{s.ID, s.all()[k]})
		}
	}
	slices.SortFunc(all, func(a, b user) int { return cmp.Or(cmp.Compare(b.amount, a.amount), cmp.Compare(a.id, b.id)) })
	var by []string
	for _, u := range all[:min(len(all), maxNamed)] {
		if u.amount > 0 {
			by = append(by, u.id)
		}
	}
	p.named[usersKey{k, t}] = by
	return by
}

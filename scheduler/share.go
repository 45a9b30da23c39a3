package scheduler

import "math"

// share is the dominant share of a tenant that uses so much: the largest
// fraction of the machines' total of any kind, by its weight.
func (p *planner) share(used Resources, t *tenant) float64 {
	return p.fraction(used) / float64(max(1, t.Weight))
}

// fraction is the largest fraction of the total of any kind.
func (p *planner) fraction(r Resources) float64 {
	most := 0.0
	for k, total := range p.total {
		if total > 0 {
			most = max(most, float64(r[k])/float64(total))
		}
	}
	return most
}

// unused is what the quota has left, without what is kept for anyone.
func (t *tenant) unused() Resources {
	var left Resources
	for k, quota := range t.Quota {
		left[k] = math.MaxInt64
		if quota > 0 {
			left[k] = max(0, quota-t.used[k])
		}
	}
	return left
}

func (t *tenant) mayEver(all Resources) bool {
	for k, quota := range t.Quota {
		if quota > 0 && all[k] > quota {
			return false
		}
	}
	return true
}

// keep leaves those who come next only what of the quota is not needed for
// one that waits.
func (t *tenant) keep(all Resources) {
	var used Resources
	for k, quota := range t.Quota {
		used[k] = math.MaxInt64
		if quota > 0 {
			used[k] = max(0, quota-t.used[k]-all[k])
		}
	}
	t.left = t.left.least(used)
}

// mostOwed returns the job that the reservation goes to: of the jobs that do
// not fit now, one of each tenant, that of the tenant whose running jobs, but
// for those that passed it, have the least share.
func (p *planner) mostOwed(lines []*line) *job {
	fits := map[shape]bool{}
	var owed *job
	least := 0.0
	for _, l := range lines {
		j := p.firstBlocked(l, fits)
		if j == nil {
			continue
		}
		var used Resources
		for _, r := range p.running {
			if r.tenant == j.tenant && (r.Rank() > j.Rank() || r.Submitted <= j.Submitted) {
				used = used.plus(r.all())
			}
		}
		share := p.share(used, j.tenant)
		if owed == nil || share < least || share == least && j.before(owed) {
			owed, least = j, share
		}
	}
	return owed
}

// firstBlocked returns the first job of a line that quota allows and room
// does not, if those before it start.
func (p *planner) firstBlocked(l *line, fits map[shape]bool) *job {
	trial := *l.tenant
	for _, j := range l.jobs {
		if j.nodes != nil {
			continue
		}
		if !trial.left.holds(j.all()) {
			trial.keep(j.all())
			continue
		}
		fit, known := fits[j.shape]
		if !known {
			fit = p.fits(j.shape, p.room)
			fits[j.shape] = fit
		}
		if !fit {
			return j
		}
		trial.used = trial.used.plus(j.all())
		trial.left = trial.left.minus(j.all())
	}
	return nil
}

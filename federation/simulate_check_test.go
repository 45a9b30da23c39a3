package federation

import (
	"math"
	"slices"
)

// check recomputes each round from what honest training gives, by another way.
func (s *simulation) check() {
	f := s.disk
	if f.State != Succeeded || f.Closed != s.terms.Rounds {
		s.t.Errorf("%s after %d of %d rounds: %s", f.State, f.Closed, s.terms.Rounds, f.Failure)
		return
	}
	base, number, attempt := s.first, 1, 1
	for _, r := range s.rounds {
		if r.Number != number || r.Attempt != attempt || r.Base != base {
			s.t.Errorf("round %d, attempt %d, from %s comes where %d, %d, %s was due", r.Number, r.Attempt, r.Base.Short(), number, attempt, base.Short())
			return
		}
		s.note(r)
		if r.Phase == Failed {
			s.tally.FailedAttempts++
			attempt++
			continue
		}
		s.tally.Rounds++
		s.recompute(r)
		base, number, attempt = r.Aggregate, number+1, 1
	}
	if number != s.terms.Rounds+1 || f.Base != base {
		s.t.Errorf("%d rounds are kept, and the model is %s, not %s", number-1, f.Base.Short(), base.Short())
	}
}

// note counts what a record says, and holds that no liar had a part.
func (s *simulation) note(r Round) {
	for _, e := range r.Cohort {
		switch e.Standing {
		case Declined:
			s.tally.Declined++
		case Withdrawn:
			s.tally.Withdrawn++
		case Spoilt:
			s.tally.Spoilt++
		}
		s.tally.Resent += e.Resent
		for _, refusal := range e.Refusals {
			if refusal.Reason == Late || refusal.Reason == Stale {
				s.tally.Late++
			} else {
				s.tally.Refused++
			}
		}
		i := slices.IndexFunc(s.agents, func(a *simulatedAgent) bool { return a.name == e.Partner })
		if liar := s.agents[i].liar; liar != "" && e.Standing == Accepted {
			s.t.Errorf("an update whose %s is wrong was accepted", liar)
		}
		if at := s.agents[i].revoked; !at.IsZero() && r.Phase == Closed && r.Ended.After(at) && e.Standing == Accepted {
			s.t.Errorf("round %d, closed at %s, has an update of a partner revoked at %s", r.Number, r.Ended, at)
		}
	}
}

// recompute holds that the aggregate is what its parts make, in plain float64.
func (s *simulation) recompute(r Round) {
	base := decode(s.t, testLayout, s.shelf[r.Base])
	got := decode(s.t, testLayout, s.shelf[r.Aggregate])
	var parts []*simulatedAgent
	for _, a := range s.agents {
		if e, ok := r.Entry(a.name); ok && e.Standing == Accepted {
			parts = append(parts, a)
		}
	}
	if len(parts) < s.terms.MinCohort {
		s.t.Errorf("round %d was made of %d updates", r.Number, len(parts))
	}
	if len(parts) < len(r.Cohort) {
		s.tally.Partial++
	}
	weights := referenceShares(parts, s.terms)
	for i := range base {
		for j := range base[i] {
			want := float64(base[i][j])
			for k, a := range parts {
				after := trained(a, r.Number, base)
				want += weights[k] * (float64(after[i][j]) - float64(base[i][j])) * referenceClip(base, after, s.terms.Clip)
			}
			if math.Abs(want-float64(got[i][j])) > 1e-5 {
				s.t.Errorf("round %d: %s[%d] is %g, not %g", r.Number, testLayout[i].Name, j, got[i][j], want)
				return
			}
		}
	}
	if loss := r.Metrics["loss"]; math.Abs(loss-float64(r.Number)) > 1e-9 {
		s.t.Errorf("round %d tells a loss of %g", r.Number, loss)
	}
}

// referenceShares finds the cap by halving.
func referenceShares(parts []*simulatedAgent, t Terms) []float64 {
	out := make([]float64, len(parts))
	high := 0.0
	for _, a := range parts {
		high = max(high, float64(a.rows))
	}
	capped := func(limit float64) (largest float64) {
		sum := 0.0
		for _, a := range parts {
			sum += min(limit, float64(a.rows))
		}
		for i, a := range parts {
			out[i] = min(limit, float64(a.rows)) / sum
			largest = max(largest, out[i])
		}
		return largest
	}
	if t.Weighting == Uniform {
		capped(1)
		return out
	}
	low := 0.5
	if capped(high) <= t.MaxShare {
		return out
	}
	for range 200 {
		if middle := (low + high) / 2; capped(middle) > t.MaxShare {
			high = middle
		} else {
			low = middle
		}
	}
	capped(low)
	return out
}

func referenceClip(before, after [][]float32, clip float64) float64 {
	norm := 0.0
	for i := range before {
		for j := range before[i] {
			norm = math.Hypot(norm, float64(after[i][j])-float64(before[i][j]))
		}
	}
	if clip > 0 && norm > clip {
		return clip / norm
	}
	return 1
}

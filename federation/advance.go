package federation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"galley"
)

// Advance is the life of a federation as a pure function. What belongs to its
// present round goes to Step. A federation that has ended changes no more, unless
// someone resumes it.
func Advance(f Federation, event Event) (Federation, []Effect, error) {
	if e, ok := event.(Resumed); ok {
		return resume(f, e), nil, nil
	}
	if f.State != Running {
		return f, nil, nil
	}
	f.Members = slices.Clone(f.Members)
	switch e := event.(type) {
	case Joined:
		err := join(&f, e.Member)
		return f, nil, err
	case Revoked:
		if i, ok := f.find(e.Partner); ok && f.Members[i].Revoked == "" {
			f.Members[i].Revoked = reason(e.Why)
			f.Updated = e.At
		}
	case Reinstated:
		if i, ok := f.find(e.Partner); ok && f.Members[i].Revoked != "" {
			f.Members[i].Revoked = ""
			f.Updated, f.Waiting = e.At, ""
		}
		return f, nil, nil
	case Cancelled:
		return cancel(f, e)
	case Ticked:
		if f.Round == nil {
			return open(f, e)
		}
	}
	if f.Round == nil {
		return f, nil, nil
	}
	r, effects, err := Step(*f.Round, event)
	if err != nil {
		return f, nil, err
	}
	f.Round = &r
	if r.open() {
		return f, effects, nil
	}
	return conclude(f, effects)
}

func reason(why string) string {
	if why == "" {
		return "no reason given"
	}
	return galley.Clip(why, maxWhy)
}

// join takes a partner in, or its new key or agreement.
func join(f *Federation, m Member) error {
	if err := m.Validate(); err != nil {
		return err
	}
	if m.Agreement.Federation != f.Terms.Federation {
		return galley.Errorf(galley.InvalidArgument, m.Name, "its agreement is for %q, not for %q", m.Agreement.Federation, f.Terms.Federation)
	}
	i, ok := f.find(m.Name)
	f.Waiting = "" // it may have been for this one
	m.Revoked, m.Answered = "", 0
	if ok {
		if why := f.Members[i].Revoked; why != "" {
			return galley.Errorf(galley.PermissionDenied, m.Name, "its access was revoked: %s", why).
				WithRemedy("ask the coordinator to reinstate it")
		}
		m.Answered = f.Members[i].Answered
		f.Members[i] = m
		return nil
	}
	if len(f.Members) >= MaxPartners {
		return galley.Errorf(galley.ResourceExhausted, f.Terms.Federation, "has %d members already", MaxPartners)
	}
	f.Members = slices.Insert(f.Members, i, m)
	return nil
}

// open begins the next round, or says what it waits for.
func open(f Federation, e Ticked) (Federation, []Effect, error) {
	if e.At.Before(f.After) {
		return f, nil, nil
	}
	var able []Member
	var passed []Passed
	for _, m := range f.Members {
		if why := m.barred(f.Terms, e.Present, e.At); why != "" {
			passed = append(passed, Passed{m.Name, why})
		} else {
			able = append(able, m)
		}
	}
	if len(able) < f.Terms.MinCohort {
		f.Waiting = waiting(f, able, passed)
		return f, nil, nil
	}
	r := Round{
		Number: f.Closed + 1, Attempt: f.Attempt + 1, Protocol: Protocol, Terms: f.Terms, Base: f.Base,
		Phase: Collecting, Opened: e.At, Deadline: e.At.Add(f.Terms.Within), Passed: passed,
		Capabilities: slices.Clone(capabilities), SingleUpdatesSeen: !slices.Contains(capabilities, SecureAggregation),
	}
	var names []string
	for _, m := range sample(able, f.Terms.Sample, f.Terms.Seed, r.Number, r.Attempt) {
		r.Cohort = append(r.Cohort, m.entry())
		names = append(names, m.Name)
	}
	slices.SortFunc(r.Cohort, func(a, b Entry) int { return strings.Compare(a.Partner, b.Partner) })
	slices.Sort(names)
	f.Round, f.Waiting, f.Updated = &r, "", e.At
	return f, []Effect{Announce{r.Number, r.Attempt, names}}, nil
}

// waiting says what a round lacks, naming the first few who are missing.
func waiting(f Federation, able []Member, passed []Passed) string {
	s := fmt.Sprintf("round %d needs %d partners and has %d", f.Closed+1, f.Terms.MinCohort, len(able))
	for i, p := range passed {
		if i == 5 {
			return s + fmt.Sprintf("; and %d more", len(passed)-i)
		}
		s += fmt.Sprintf("; %s: %s", p.Partner, p.Why)
	}
	return s
}

// conclude counts a round that has ended, once: it leaves the federation with
// the same change.
func conclude(f Federation, effects []Effect) (Federation, []Effect, error) {
	r := *f.Round
	f.Round, f.Updated, f.After = nil, r.Ended, time.Time{}
	effects = append(effects, KeepRound{r})
	if r.Phase == Failed {
		f.Attempt++
		f.After = r.Ended.Add(f.Terms.Pause)
		if n := f.Attempt - f.Resumed; n >= f.Terms.Attempts {
			f.State = Broken
			f.Failure = fmt.Sprintf("round %d failed %d times, at last: %s", r.Number, n, r.Failure)
			effects = append(effects, Finish{f.made()})
		}
		return f, effects, nil
	}
	f.Closed, f.Base, f.Attempt, f.Resumed = r.Number, r.Aggregate, 0, 0
	for _, p := range r.Parts() {
		if i, ok := f.find(p.Partner); ok {
			f.Members[i].Answered++
		}
	}
	if f.Closed == f.Terms.Rounds {
		f.State = Succeeded
		effects = append(effects, Finish{f.made()})
	}
	return f, effects, nil
}

// made returns the last aggregate, "" if no round was closed.
func (f Federation) made() galley.Digest {
	if f.Closed == 0 {
		return ""
	}
	return f.Base
}

func cancel(f Federation, e Cancelled) (Federation, []Effect, error) {
	var effects []Effect
	if f.Round != nil {
		r, _, err := Step(*f.Round, e)
		if err != nil {
			return f, nil, err
		}
		f.Round = nil
		f.Attempt++ // none has its number again if the federation is resumed
		effects = append(effects, KeepRound{r})
	}
	f.State, f.Updated, f.Failure = Ended, e.At, "cancelled: "+reason(e.Why)
	return f, append(effects, Finish{f.made()}), nil
}

func resume(f Federation, e Resumed) Federation {
	if f.State != Broken && f.State != Ended {
		return f
	}
	f.State, f.Failure, f.Waiting = Running, "", ""
	f.Resumed, f.After, f.Updated = f.Attempt, time.Time{}, e.At
	return f
}

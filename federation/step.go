package federation

import (
	"fmt"
	"time"

	"galley"
)

// Step is the life of a round as a pure function. What comes for an aggregation
// that is not the present one changes nothing; an update that is refused
// changes the record alone.
func Step(r Round, event Event) (Round, []Effect, error) {
	r = r.clone()
	switch e := event.(type) {
	case Submitted:
		before, effects := expire(r, e.At)
		after, more := submit(before, e)
		return after, append(effects, more...), nil
	case Refused:
		r, effects := decline(r, e)
		return r, effects, nil
	case Revoked:
		r, effects := withdraw(r, e)
		return r, effects, nil
	case Ticked:
		r, effects := expire(r, e.At)
		return r, effects, nil
	case Aggregated:
		if !r.present(e.Round, e.Attempt, e.Ordinal) {
			return r, nil, nil
		}
		r.Phase, r.Ended, r.Aggregate = Closed, e.At, e.Aggregate
		return r, nil, nil
	case Broke:
		if !r.present(e.Round, e.Attempt, e.Ordinal) {
			return r, nil, nil
		}
		r, effects := spoil(r, e)
		return r, effects, nil
	case Cancelled:
		if r.open() {
			r = r.fail(e.At, "cancelled: "+galley.Clip(e.Why, maxWhy))
		}
		return r, nil, nil
	default:
		return r, nil, galley.Errorf(galley.Internal, r.Terms.Federation, "unknown event %T", event)
	}
}

// maxWhy bounds what others say, in a record.
const maxWhy = 500

// present reports whether the numbered aggregation is the one under way.
func (r Round) present(number, attempt, ordinal int) bool {
	return r.Phase == Aggregating && number == r.Number && attempt == r.Attempt && ordinal == r.Aggregations
}

func submit(r Round, s Submitted) (Round, []Effect) {
	v := r.Judge(s)
	i := r.find(s.Header.Partner)
	switch {
	case i < 0:
		r.Strangers++
		return r, nil
	case v.Resent:
		r.Cohort[i].Resent++
		return r, nil
	case !v.OK():
		e := &r.Cohort[i]
		if e.Refused++; len(e.Refusals) < maxRefusals {
			e.Refusals = append(e.Refusals, Refusal{s.At, v.Reason, v.Message})
		}
		return r, nil
	}
	header := s.Header
	e := &r.Cohort[i]
	e.Standing, e.Header, e.Norm, e.Came = Accepted, &header, s.Finding.Norm, s.At
	return settle(r, s.At)
}

func decline(r Round, e Refused) (Round, []Effect) {
	i := r.find(e.Partner)
	if i < 0 || r.Phase != Collecting || r.Cohort[i].Standing != Offered || e.Round != r.Number || e.Attempt != r.Attempt {
		return r, nil
	}
	r.Cohort[i].Standing, r.Cohort[i].Why = Declined, galley.Clip(e.Why, maxWhy)
	return settle(r, e.At)
}

// withdraw takes a partner out, with its update if the round is still open.
func withdraw(r Round, e Revoked) (Round, []Effect) {
	i := r.find(e.Partner)
	if i < 0 || !r.open() || r.Cohort[i].Standing == Withdrawn {
		return r, nil
	}
	counted := r.Cohort[i].Standing == Accepted
	r.Cohort[i].Standing, r.Cohort[i].Why = Withdrawn, galley.Clip(e.Why, maxWhy)
	if r.Phase == Collecting {
		return settle(r, e.At)
	}
	if !counted {
		return r, nil
	}
	return aggregate(r, e.At)
}

// spoil takes an update out that cannot be aggregated.
func spoil(r Round, e Broke) (Round, []Effect) {
	i := r.find(e.Partner)
	if i < 0 || r.Cohort[i].Standing != Accepted || e.Fault == nil {
		return r, nil
	}
	entry := &r.Cohort[i]
	entry.Standing, entry.Why = Spoilt, e.Fault.Error()
	entry.Refused++
	if len(entry.Refusals) < maxRefusals {
		entry.Refusals = append(entry.Refusals, Refusal{e.At, e.Fault.Reason, e.Fault.Message})
	}
	return aggregate(r, e.At)
}

// settle ends the collecting as soon as nothing more is to be waited for.
func settle(r Round, at time.Time) (Round, []Effect) {
	accepted, waiting := r.count(Accepted), r.count(Offered)
	enough := r.Terms.Enough > 0 && accepted >= r.Terms.Enough
	if waiting > 0 && !enough && accepted+waiting >= r.Terms.MinCohort {
		return r, nil
	}
	return aggregate(r, at)
}

// expire ends the collecting at its deadline.
func expire(r Round, at time.Time) (Round, []Effect) {
	if r.Phase != Collecting || at.Before(r.Deadline) {
		return r, nil
	}
	return aggregate(r, at)
}

// aggregate goes on with the updates that there are, if they are enough.
func aggregate(r Round, at time.Time) (Round, []Effect) {
	for i := range r.Cohort {
		if r.Cohort[i].Standing == Offered {
			r.Cohort[i].Standing = Straggler
		}
	}
	if n := r.count(Accepted); n < r.Terms.MinCohort {
		return r.fail(at, fmt.Sprintf("%d of %d partners gave an update that counts; the minimum cohort is %d", n, len(r.Cohort), r.Terms.MinCohort)), nil
	}
	r.Phase = Aggregating
	r.Aggregations++
	r.share()
	return r, []Effect{r.aggregation()}
}

// aggregation is the work of a round that aggregates.
func (r Round) aggregation() StartAggregation {
	return StartAggregation{r.Number, r.Attempt, r.Aggregations, r.Base, r.Parts()}
}

// share says what each update counts, and the means of what was told beside.
func (r *Round) share() {
	var counted []*Entry
	var rows []int64
	for i := range r.Cohort {
		e := &r.Cohort[i]
		if e.Share, e.Scale = 0, 0; e.Standing == Accepted {
			counted = append(counted, e)
			rows = append(rows, e.Header.Rows)
		}
	}
	most := r.Terms.MaxShare
	if r.Terms.Weighting == Uniform {
		most = 0 // too little for any number: all count the same
	}
	sums, told := make(map[string]float64), make(map[string]float64)
	for i, share := range shares(rows, most) {
		e := counted[i]
		e.Share, e.Scale = share, clipped(e.Norm, r.Terms.Clip)
		for name, v := range e.Header.Metrics {
			sums[name] += share * v
			told[name] += share
		}
	}
	r.Metrics = nil
	if len(sums) > 0 {
		r.Metrics = make(map[string]float64, len(sums))
		for name, sum := range sums {
			r.Metrics[name] = sum / told[name]
		}
	}
}

func (r Round) fail(at time.Time, why string) Round {
	r.Phase, r.Ended, r.Failure = Failed, at, why
	for i := range r.Cohort {
		r.Cohort[i].Share, r.Cohort[i].Scale = 0, 0
	}
	r.Metrics = nil
	return r
}

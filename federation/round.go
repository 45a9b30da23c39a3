package federation

import (
	"crypto/ed25519"
	"slices"
	"strings"
	"time"

	"galley"
)

// A Phase says where a round stands.
type Phase string

// The phases of a round.
const (
	Collecting  Phase = "collecting"  // offers are out
	Aggregating Phase = "aggregating" // enough updates are there
	Closed      Phase = "closed"      // the aggregate is the next base
	Failed      Phase = "failed"      // this attempt has no aggregate
)

// A Standing is where a partner of the cohort stands in a round.
type Standing string

// The standings.
const (
	Offered   Standing = "offered"   // asked; nothing valid has come yet
	Accepted  Standing = "accepted"  // its update counts
	Declined  Standing = "declined"  // its agent said no
	Straggler Standing = "straggler" // the round went on without it
	Withdrawn Standing = "withdrawn" // its access was revoked
	Spoilt    Standing = "spoilt"    // its accepted update could not be aggregated
)

// A Round is one attempt at one round: who was asked, what came, what became
// of it. It is its own record, and changes only through Step.
type Round struct {
	Number    int           `json:"number"`  // 1 is the first
	Attempt   int           `json:"attempt"` // 1 is the first
	Protocol  int           `json:"protocol"`
	Terms     Terms         `json:"terms"`
	Base      galley.Digest `json:"base"`
	Phase     Phase         `json:"phase"`
	Opened    time.Time     `json:"opened"`
	Deadline  time.Time     `json:"deadline"`
	Ended     time.Time     `json:"ended,omitzero"`
	Cohort    []Entry       `json:"cohort"`           // by name
	Passed    []Passed      `json:"passed,omitempty"` // members who were not asked, and why
	Strangers int           `json:"strangers"`        // updates of others than the cohort

	Aggregations int                `json:"aggregations"` // begun; fences off the ones before
	Aggregate    galley.Digest      `json:"aggregate,omitempty"`
	Metrics      map[string]float64 `json:"metrics,omitempty"` // means of the parts, by share
	Failure      string             `json:"failure,omitempty"`

	Capabilities []Capability `json:"capabilities"` // that protected the updates
	// SingleUpdatesSeen says that the coordinator had each partner's update in
	// the clear. It is so for each round without SecureAggregation.
	SingleUpdatesSeen bool `json:"coordinator_saw_single_updates"`
}

// An Entry is a partner's part in a round.
type Entry struct {
	Partner   string            `json:"partner"`
	Key       ed25519.PublicKey `json:"key"`
	Agreement galley.Digest     `json:"agreement"`
	Rows      RowCount          `json:"declared"` // how its agreement lets rows be told
	Standing  Standing          `json:"standing"`
	Why       string            `json:"why,omitempty"`
	Header    *SignedHeader     `json:"header,omitempty"` // of the accepted update
	Norm      float64           `json:"norm,omitempty"`   // of the accepted update, as it came
	Share     float64           `json:"share,omitempty"`  // of the aggregate
	Scale     float64           `json:"scale,omitempty"`  // that clipped it
	Came      time.Time         `json:"came,omitzero"`
	Refusals  []Refusal         `json:"refusals,omitempty"` // the first of them
	Refused   int               `json:"refused"`            // all of them
	Resent    int               `json:"resent"`             // the accepted update, once more
}

// maxRefusals bounds what a partner can write into a round's record.
const maxRefusals = 8

// A Refusal is an update that counted for nothing.
type Refusal struct {
	At      time.Time `json:"at"`
	Reason  Reason    `json:"reason"`
	Message string    `json:"message"`
}

// Passed is a member that a round did not ask.
type Passed struct {
	Partner string `json:"partner"`
	Why     string `json:"why"`
}

// open reports whether the round can still change its aggregate.
func (r Round) open() bool { return r.Phase == Collecting || r.Phase == Aggregating }

// Entry returns the partner's part in the round.
func (r Round) Entry(partner string) (Entry, bool) {
	if i := r.find(partner); i >= 0 {
		return r.Cohort[i], true
	}
	return Entry{}, false
}

func (r Round) find(partner string) int {
	i, ok := slices.BinarySearchFunc(r.Cohort, partner, func(e Entry, name string) int { return strings.Compare(e.Partner, name) })
	if !ok {
		return -1
	}
	return i
}

// Offer returns what the partner is asked now; false if it is asked nothing.
// An agent that lost it, or that was not there, is offered the same again.
func (r Round) Offer(partner string, now time.Time) (Offer, bool) {
	e, ok := r.Entry(partner)
	if !ok || r.Phase != Collecting || e.Standing != Offered || !now.Before(r.Deadline) {
		return Offer{}, false
	}
	return Offer{
		Protocol: r.Protocol, Federation: r.Terms.Federation, Run: r.Terms.Run, Round: r.Number, Attempt: r.Attempt,
		Partner: partner, Agreement: e.Agreement, Purpose: r.Terms.Purpose, Model: r.Terms.Model, Base: r.Base,
		MinCohort: r.Terms.MinCohort, Strategy: r.Terms.Strategy, Mu: r.Terms.Mu, Clip: r.Terms.Clip,
		Weighting: r.Terms.Weighting, Metrics: r.Terms.Metrics, Recipe: r.Terms.Recipe, Within: r.Deadline.Sub(now), Capabilities: r.Capabilities,
	}, true
}

// Parts returns the updates that count, with their shares.
func (r Round) Parts() []Part {
	var parts []Part
	for _, e := range r.Cohort {
		if e.Standing == Accepted {
			parts = append(parts, Part{e.Partner, e.Header.Update, e.Share, e.Scale})
		}
	}
	return parts
}

// Holds returns the digests that the round still needs: its base and, as long
// as it is open, its updates. A closed round needs no partner's update; who
// keeps them keeps more than was agreed.
func (r Round) Holds() []galley.Digest {
	if !r.open() {
		if r.Phase == Closed {
			return []galley.Digest{r.Aggregate}
		}
		return nil
	}
	held := []galley.Digest{r.Base}
	for _, p := range r.Parts() {
		held = append(held, p.Update)
	}
	return held
}

// count returns how many entries have one of the standings.
func (r Round) count(standings ...Standing) int {
	n := 0
	for _, e := range r.Cohort {
		if slices.Contains(standings, e.Standing) {
			n++
		}
	}
	return n
}

// clone returns a round whose cohort can be changed.
func (r Round) clone() Round {
	r.Cohort = slices.Clone(r.Cohort)
	for i := range r.Cohort {
		r.Cohort[i].Refusals = slices.Clone(r.Cohort[i].Refusals)
	}
	return r
}

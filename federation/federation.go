package federation

import (
	"cmp"
	"slices"
	"time"

	"galley"
)

// A State says where a federation stands.
type State string

// The states of a federation.
const (
	Running   State = "running"
	Succeeded State = "succeeded" // all rounds are closed
	Broken    State = "failed"    // a round failed as often as it may
	Ended     State = "cancelled" // someone ended it
)

// A Federation is a series of rounds, each beginning with what the one before
// made. Together with the rounds that it gave to KeepRound it is all there is to
// know: a coordinator that lost everything else goes on from it.
type Federation struct {
	Terms   Terms         `json:"terms"`
	State   State         `json:"state"`
	Members []Member      `json:"members"` // by name
	Closed  int           `json:"closed"`  // rounds that are part of Base
	Base    galley.Digest `json:"base"`    // what the next round begins with
	Round   *Round        `json:"round,omitempty"`
	Attempt int           `json:"attempt"`           // at the next round, that have ended
	Resumed int           `json:"resumed,omitempty"` // of them, those before someone last resumed the federation
	After   time.Time     `json:"after,omitzero"`
	Waiting string        `json:"waiting,omitempty"` // for what, where no round can be opened
	Failure string        `json:"failure,omitempty"`
	Updated time.Time     `json:"updated"`
}

// New returns a federation that begins with the weights base.
func New(t Terms, base galley.Digest, at time.Time) (Federation, error) {
	if err := t.Validate(); err != nil {
		return Federation{}, err
	}
	if _, err := galley.ParseDigest(string(base)); err != nil {
		return Federation{}, err
	}
	return Federation{Terms: t, State: Running, Base: base, Updated: at}, nil
}

// Due returns when a Ticked changes something at the latest, and false if time
// alone never does.
func (f Federation) Due() (time.Time, bool) {
	switch {
	case f.State != Running:
		return time.Time{}, false
	case f.Round == nil:
		return f.After, f.Waiting == ""
	case f.Round.Phase == Collecting:
		return f.Round.Deadline, true
	default:
		return time.Time{}, false
	}
}

// Resume returns the effects that the present state asks for: what a coordinator
// performs when it begins again.
func (f Federation) Resume() []Effect {
	switch r := f.Round; {
	case f.State != Running:
		return []Effect{Finish{f.made()}}
	case r == nil:
		return nil
	case r.Phase == Aggregating:
		return []Effect{r.aggregation()}
	default:
		var names []string
		for _, e := range r.Cohort {
			if e.Standing == Offered {
				names = append(names, e.Partner)
			}
		}
		return []Effect{Announce{r.Number, r.Attempt, names}}
	}
}

func (f Federation) find(name string) (int, bool) {
	return slices.BinarySearchFunc(f.Members, name, func(m Member, name string) int { return cmp.Compare(m.Name, name) })
}

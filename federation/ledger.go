package federation

import (
	"slices"

	"galley"
)

// A Ledger is what an agent keeps of its answers, stored before each is sent: an
// agent that was killed sends the same update again, and never a second one. Its
// size grows with the runs that were answered, not with their rounds.
type Ledger struct {
	Runs    []AnsweredRun  `json:"runs,omitempty"`
	Answers []SignedHeader `json:"answers,omitempty"` // the last one, as it was signed
}

// An AnsweredRun is how far an agent has come in a run.
type AnsweredRun struct {
	Federation string        `json:"federation"`
	Run        string        `json:"run"`
	Rounds     int           `json:"rounds"` // that were answered
	Round      int           `json:"round"`  // the last of them
	Attempt    int           `json:"attempt"`
	Base       galley.Digest `json:"base"`
}

func (r AnsweredRun) is(federation, run string) bool {
	return r.Federation == federation && r.Run == run
}

// Find returns the answer to an offer, if it is the last that was given. What is
// before that is past: a run goes forward, and an offer that does not is
// refused, since the answer to it is not known any more and there is to be no
// second one. All attempts of a round begin with the same weights; an offer of
// one with others is refused: it would let a coordinator ask the same question
// until the answers, side by side, say more than one does.
func (l Ledger) Find(o Offer) (SignedHeader, bool, error) {
	refused := func(format string, args ...any) (SignedHeader, bool, error) {
		return SignedHeader{}, false, galley.Errorf(galley.PermissionDenied, "offer", format, args...).
			WithRemedy("nothing was sent; ask the coordinator what happened")
	}
	i := slices.IndexFunc(l.Runs, func(r AnsweredRun) bool { return r.is(o.Federation, o.Run) })
	if i < 0 {
		return SignedHeader{}, false, nil
	}
	switch last := l.Runs[i]; {
	case o.Round > last.Round:
		return SignedHeader{}, false, nil
	case o.Round < last.Round:
		return refused("round %d comes again, and round %d was answered", o.Round, last.Round)
	case o.Base != last.Base:
		return refused("round %d was answered for the weights %s, and now comes with %s", o.Round, last.Base.Short(), o.Base.Short())
	case o.Attempt > last.Attempt:
		return SignedHeader{}, false, nil
	}
	for _, a := range l.Answers {
		if a.Federation == o.Federation && a.Run == o.Run && a.Round == o.Round && a.Attempt == o.Attempt {
			return a, true, nil
		}
	}
	return refused("attempt %d of round %d comes again, and attempt %d was answered", o.Attempt, o.Round, l.Runs[i].Attempt)
}

// Answered returns the number of rounds other than the offered one that the
// agent has answered, in all runs of the federation; attempts of one round count
// once.
func (l Ledger) Answered(o Offer) int {
	n := 0
	for _, r := range l.Runs {
		if r.Federation != o.Federation {
			continue
		}
		if n += r.Rounds; r.Run == o.Run && r.Round == o.Round {
			n--
		}
	}
	return n
}

// Add returns the ledger with one more answer.
func (l Ledger) Add(h SignedHeader) Ledger {
	l.Runs = slices.Clone(l.Runs)
	i := slices.IndexFunc(l.Runs, func(r AnsweredRun) bool { return r.is(h.Federation, h.Run) })
	if i < 0 {
		i = len(l.Runs)
		l.Runs = append(l.Runs, AnsweredRun{Federation: h.Federation, Run: h.Run})
	}
	switch r := &l.Runs[i]; {
	case h.Round > r.Round:
		r.Rounds++
		r.Round, r.Attempt, r.Base = h.Round, h.Attempt, h.Base
	case h.Round == r.Round:
		r.Attempt = max(r.Attempt, h.Attempt)
	default: // Find refuses it; it counts all the same
		r.Rounds++
	}
	l.Answers = []SignedHeader{h}
	return l
}

// Upgrade returns a ledger of an earlier release, which has all answers, as one
// of this.
func (l Ledger) Upgrade() Ledger {
	if len(l.Runs) > 0 || len(l.Answers) == 0 {
		return l
	}
	var now Ledger
	for _, h := range l.Answers {
		now = now.Add(h)
	}
	return now
}

package federation

import "galley"

// A Ledger is what an agent keeps of its answers, stored before each is sent: an
// agent that was killed sends the same update again, and never a second one.
type Ledger struct {
	Answers []SignedHeader `json:"answers,omitempty"` // as they were signed
}

// Find returns the answer to an offer, if there is one already. All attempts of
// a round begin with the same weights; an offer of one with others is refused:
// it would let a coordinator ask the same question until the answers, side by
// side, say more than one does.
func (l Ledger) Find(o Offer) (SignedHeader, bool, error) {
	var found *SignedHeader
	for i, a := range l.Answers {
		if a.Federation != o.Federation || a.Run != o.Run || a.Round != o.Round {
			continue
		}
		if a.Base != o.Base {
			return SignedHeader{}, false, galley.Errorf(galley.PermissionDenied, "offer", "round %d was answered for the weights %s, and now comes with %s", o.Round, a.Base.Short(), o.Base.Short()).
				WithRemedy("nothing was sent; ask the coordinator what happened")
		}
		if a.Attempt == o.Attempt {
			found = &l.Answers[i]
		}
	}
	if found == nil {
		return SignedHeader{}, false, nil
	}
	return *found, true, nil
}

// Answered returns the number of rounds other than the offered one that the
// agent has answered, in all runs of the federation; attempts of one round count
// once.
func (l Ledger) Answered(o Offer) int {
	type round struct {
		run    string
		number int
	}
	rounds := make(map[round]bool)
	for _, a := range l.Answers {
		if a.Federation == o.Federation {
			rounds[round{a.Run, a.Round}] = true
		}
	}
	delete(rounds, round{o.Run, o.Round})
	return len(rounds)
}

// Add returns the ledger with one more answer.
func (l Ledger) Add(h SignedHeader) Ledger {
	l.Answers = append(l.Answers[:len(l.Answers):len(l.Answers)], h)
	return l
}

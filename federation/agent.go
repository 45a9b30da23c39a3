package federation

import (
	"crypto/ed25519"
	"slices"
	"time"

	"galley"
)

// An Agent is a partner's side of a federation: what it permits, what it has
// answered, and its key. It decides alone; nothing a coordinator says widens
// what leaves.
type Agent struct {
	Agreement Agreement
	Ledger    Ledger
	Key       ed25519.PrivateKey
}

// Consider says what to do with an offer: send the answer that was given
// already, if there is one; else train. An error is why neither is done, in
// words that the coordinator may have.
func (a Agent) Consider(o Offer, now time.Time) (answer *SignedHeader, err error) {
	if err := a.Agreement.Permits(o, a.Ledger.Answered(o), now); err != nil {
		return nil, err
	}
	h, ok, err := a.Ledger.Find(o)
	if err != nil || !ok {
		return nil, err
	}
	return &h, nil
}

// Answer signs an update that was made for an offer, and adds it to the ledger,
// which is to be stored, with the update, before anything is sent. It tells
// rows and metrics as the agreement lets them be told, and signs no update that
// is longer than it may be. Time has passed with training: the agreement is
// asked again.
func (a Agent) Answer(o Offer, update Finding, rows int64, metrics map[string]float64, now time.Time) (Agent, SignedHeader, error) {
	answer, err := a.Consider(o, now)
	switch {
	case err != nil:
		return a, SignedHeader{}, err
	case answer != nil:
		return a, *answer, nil
	case rows < 1:
		return a, SignedHeader{}, galley.Errorf(galley.FailedPrecondition, "rows", "there are no rows to train on")
	}
	// An update is rounded to float32 after it was clipped.
	if bound := a.Agreement.Bound(o); bound > 0 && !(update.Norm <= bound*(1+1e-5)) {
		return a, SignedHeader{}, galley.Errorf(galley.PermissionDenied, "agreement.clip", "the update has a norm of %g, and %g is the longest that may leave", update.Norm, bound).
			WithRemedy("nothing was sent; clip the update when it is written")
	}
	h := Header{
		Protocol: Protocol, Federation: o.Federation, Run: o.Run, Round: o.Round, Attempt: o.Attempt, Partner: o.Partner, Agreement: o.Agreement,
		Base: o.Base, Update: update.Digest, Rows: a.Agreement.Told(rows), Capabilities: o.Capabilities,
	}
	for name, v := range metrics {
		// Permits has held that what is asked for is agreed.
		if slices.Contains(o.Metrics, name) && measured(v) {
			if h.Metrics == nil {
				h.Metrics = make(map[string]float64)
			}
			h.Metrics[name] = v
		}
	}
	signed := Sign(h, a.Key)
	a.Ledger = a.Ledger.Add(signed)
	return a, signed, nil
}

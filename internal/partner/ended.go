package partner

import (
	"slices"
	"time"

	federationpb "galley/api/federation/v1"

	"galley"
)

// endedFile says how the last run ended whose end the agent has heard of.
const endedFile = "ended.json"

// An Ended is a run that has ended, as its coordinator says.
type Ended struct {
	Run     string    `json:"run"`
	Outcome string    `json:"outcome"` // succeeded, failed, cancelled
	At      time.Time `json:"at"`      // when it was heard
}

// heard tells the operator of a run that has ended, and keeps it for the status.
func (a *agent) heard(o *federationpb.Offer) error {
	e := Ended{o.GetRun(), o.GetEnded(), a.now().UTC()}
	if galley.CheckName("run", e.Run) != nil || !slices.Contains([]string{"succeeded", "failed", "cancelled"}, e.Outcome) {
		return galley.Errorf(galley.InvalidArgument, "offer", "says of the run %q that it has %q", galley.Clip(printable(e.Run), 80), galley.Clip(printable(e.Outcome), 80))
	}
	a.log.Info("the run has ended", "run", e.Run, "outcome", e.Outcome)
	if err := writeJSON(a.home.path(endedFile), e); err != nil {
		a.log.Error("the end of a run cannot be written down", "error", err)
	}
	return nil
}

// LastRun is the last run that an agent has answered.
type LastRun struct {
	Run      string    `json:"run"`
	Answered int       `json:"answered"`          // rounds of it
	Outcome  string    `json:"outcome,omitempty"` // "" while it runs, or its end was not heard
	Ended    time.Time `json:"ended,omitzero"`    // when its end was heard
}

// lastRun is the last run of a federation that the agent has answered, the zero
// LastRun if there is none. A run that goes on after it had failed has not ended.
func (h *home) lastRun(federation string) (LastRun, error) {
	l, err := h.ledger()
	if err != nil {
		return LastRun{}, err
	}
	for _, r := range slices.Backward(l.Runs) {
		if r.Federation != federation {
			continue
		}
		last := LastRun{Run: r.Run, Answered: r.Rounds}
		var e Ended
		// What cannot be read costs the status alone.
		if err := readJSON(h.path(endedFile), maxMembership, &e); err == nil && e.Run == r.Run {
			last.Outcome, last.Ended = e.Outcome, e.At
		}
		return last, nil
	}
	return LastRun{}, nil
}

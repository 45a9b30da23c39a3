package federation

import (
	"time"

	"galley"
)

// An Event happens to a round or to a federation. Time is part of it: Step and
// Advance have no clock.
type Event interface{ event() }

// The events of a round.
type (
	// Submitted: an update has come, and its bytes are kept. Fault is what
	// Inspect found wrong with them; Finding is theirs if it found nothing.
	Submitted struct {
		At      time.Time
		Header  SignedHeader
		Finding Finding
		Fault   *Fault
	}
	// Refused: a partner's agent does not take part. Why is its own message.
	Refused struct {
		At             time.Time
		Partner        string
		Round, Attempt int
		Why            string
	}
	// Revoked: a partner has lost its access, or has taken back its agreement.
	Revoked struct {
		At      time.Time
		Partner string
		Why     string
	}
	// Ticked: time has passed. Present are the partners whose agents are
	// connected; only a federation needs them.
	Ticked struct {
		At      time.Time
		Present []string
	}
	// Aggregated: the numbered aggregation has stored its result.
	Aggregated struct {
		At                      time.Time
		Round, Attempt, Ordinal int
		Aggregate               galley.Digest
	}
	// Broke: the numbered aggregation found an update that spoils it.
	Broke struct {
		At                      time.Time
		Round, Attempt, Ordinal int
		Partner                 string
		Fault                   *Fault
	}
)

// The events of a federation alone.
type (
	// Joined: a partner has come, or has a new key or agreement, from the next
	// round on.
	Joined struct{ Member Member }
	// Reinstated: a partner whose access was revoked has it again, from the next
	// round on. Joining alone does not give it back.
	Reinstated struct {
		At      time.Time
		Partner string
	}
	// Cancelled: someone ends the federation.
	Cancelled struct {
		At  time.Time
		Why string
	}
	// Resumed: someone has a federation go on that failed or was cancelled. The
	// next round has all its attempts again; their numbers go on.
	Resumed struct{ At time.Time }
)

func (Submitted) event()  {}
func (Refused) event()    {}
func (Revoked) event()    {}
func (Ticked) event()     {}
func (Aggregated) event() {}
func (Broke) event()      {}
func (Joined) event()     {}
func (Reinstated) event() {}
func (Cancelled) event()  {}
func (Resumed) event()    {}

// An Effect is what a change asks for. Each may be performed twice.
type Effect interface{ effect() }

// The effects.
type (
	// Announce: these partners have a new offer to fetch.
	Announce struct {
		Round, Attempt int
		Partners       []string
	}
	// StartAggregation: the parts are to become the next weights; the outcome
	// is an Aggregated or a Broke with the same numbers.
	StartAggregation struct {
		Round, Attempt, Ordinal int
		Base                    galley.Digest
		Parts                   []Part
	}
	// KeepRound: the round has ended. Its record is written with the change,
	// in the same transaction.
	KeepRound struct{ Round Round }
	// Finish: the federation has ended; Model is the last aggregate, "" if
	// there is none.
	Finish struct{ Model galley.Digest }
)

func (Announce) effect()         {}
func (StartAggregation) effect() {}
func (KeepRound) effect()        {}
func (Finish) effect()           {}

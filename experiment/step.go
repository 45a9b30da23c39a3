package experiment

import (
	"slices"
	"time"

	"galley"
)

// An Event happens to an experiment. Time is part of it: Step has no clock.
type Event interface{ event() }

// The events.
type (
	// Resplit: someone changed the shares.
	Resplit struct {
		At        time.Time
		Treatment int // share, in Parts
	}
	// Ramped: the treatment kept its guardrails, and may have more.
	Ramped struct{ At time.Time }
	// Ended: someone stopped it, or the hold that its end left.
	Ended struct {
		At     time.Time
		Reason string
	}
	// Breached: a guardrail found the treatment worse than it may be. Prod is
	// the generation of the alias that traffic follows.
	Breached struct {
		Breach Breach
		Prod   int64
	}
	// Judged: someone asks for the winner. Verdict is what the figures say.
	Judged struct {
		At       time.Time
		Verdict  Verdict
		Trusted  bool // no sample-ratio mismatch
		Evidence string
		Winner   *Arm // who is to win by force; nil leaves it to the verdict
		Reason   string
		Prod     int64
	}
)

func (Resplit) event()  {}
func (Ramped) event()   {}
func (Ended) event()    {}
func (Breached) event() {}
func (Judged) event()   {}

// An Effect is what a change asks for.
type Effect interface{ effect() }

// The effects.
type (
	// Reroute: what requests without a version go to has changed.
	Reroute struct{}
	// PromoteTreatment: the alias prod is to point at the treatment.
	PromoteTreatment struct {
		Forced bool
		Reason string
	}
)

func (Reroute) effect()          {}
func (PromoteTreatment) effect() {}

// Step is the life of an experiment as a pure function. A breach of one that
// has ended changes nothing: its answers were under way; nor does its ramp. The
// hold that its end left can be ended. Other events that come too late are refused, and the experiment stays as it was.
func Step(e Experiment, event Event) (Experiment, []Effect, error) {
	e.Stages = slices.Clone(e.Stages)
	if e.State != Running {
		switch event := event.(type) {
		case Breached, Ramped:
			return e, nil, nil
		case Ended:
			if e.Hold != nil {
				e.Hold, e.Updated = nil, event.At
				return e, []Effect{Reroute{}}, nil
			}
		}
		return e, nil, galley.Errorf(galley.FailedPrecondition, e.Name, "has ended: it is %s", e.State).
			WithRemedy("look at it with galley ab show %s, or start another", e.Name)
	}
	switch event := event.(type) {
	case Resplit:
		return resplit(e, event)
	case Ramped:
		share, at, ok := e.Next()
		if !ok || event.At.Before(at) {
			return e, nil, nil
		}
		return resplit(e, Resplit{event.At, share})
	case Ended:
		if err := checkReason(event.Reason); err != nil {
			return e, nil, err
		}
		e.Reason = event.Reason
		return e.end(event.At, Stopped), []Effect{Reroute{}}, nil
	case Breached:
		e.Breach, e.Hold = &event.Breach, &Hold{event.Prod}
		return e.end(event.Breach.At, RolledBack), []Effect{Reroute{}}, nil
	case Judged:
		return decide(e, event)
	default:
		return e, nil, galley.Errorf(galley.Internal, e.Name, "unknown event %T", event)
	}
}

func (e Experiment) end(at time.Time, s State) Experiment {
	e.State, e.Ended, e.Updated = s, &at, at
	return e
}

func resplit(e Experiment, event Resplit) (Experiment, []Effect, error) {
	if err := checkShare(event.Treatment); err != nil {
		return e, nil, err
	}
	if e.Shadow != nil {
		return e, nil, galley.Errorf(galley.FailedPrecondition, e.Name, "is a shadow: the control answers all requests").
			WithRemedy("stop it, and start an experiment with a split")
	}
	if event.Treatment == e.Stage().Treatment {
		return e, nil, nil
	}
	if len(e.Stages) == maxStages {
		return e, nil, galley.Errorf(galley.FailedPrecondition, e.Name, "its shares changed %d times already", maxStages-1).
			WithRemedy("stop it and start another")
	}
	e.Stages = append(e.Stages, Stage{Treatment: event.Treatment, Since: event.At})
	e.Updated = event.At
	return e, []Effect{Reroute{}}, nil
}

func decide(e Experiment, event Judged) (Experiment, []Effect, error) {
	if err := checkReason(event.Reason); err != nil {
		return e, nil, err
	}
	winner, forced := Treatment, event.Winner != nil
	switch {
	case forced && event.Reason == "":
		return e, nil, galley.Errorf(galley.InvalidArgument, e.Name, "a decision by force needs a reason").
			WithRemedy("add --reason TEXT, which is recorded")
	case forced:
		winner = *event.Winner
	case !event.Trusted:
		return e, nil, galley.Errorf(galley.FailedPrecondition, e.Name, "a sample-ratio mismatch makes its figures doubtful: %s", event.Evidence).
			WithRemedy("find out why outcomes of one arm are missing, or decide all the same with --force --winner ARM --reason TEXT, which is recorded")
	case event.Verdict == Undecided:
		return e, nil, galley.Errorf(galley.FailedPrecondition, e.Name, "is undecided: %s", event.Evidence).
			WithRemedy("wait for more outcomes, end it with galley ab stop %s, or decide all the same with --force --winner ARM --reason TEXT, which is recorded", e.Name)
	case event.Verdict == ForControl:
		winner = Control
	}
	e.Decision = &Decision{Winner: winner, Forced: forced, Evidence: event.Evidence}
	e.Reason = event.Reason
	e = e.end(event.At, Decided)
	if winner == Control {
		e.Hold = &Hold{event.Prod}
		return e, []Effect{Reroute{}}, nil
	}
	reason := "experiment " + e.Name + ": " + event.Evidence
	if event.Reason != "" {
		reason += "; " + event.Reason
	}
	return e, []Effect{PromoteTreatment{forced, galley.Clip(reason, maxReason-10)}, Reroute{}}, nil
}

func checkReason(reason string) error {
	if len(reason) > maxReason {
		return galley.Errorf(galley.InvalidArgument, "reason", "has %d bytes", len(reason)).WithRemedy("write at most %d", maxReason)
	}
	return nil
}

package trainer

import (
	"maps"
	"slices"
	"time"

	"galley"
)

// The events of a job of kind Federate, beside Published, CancelAsked and
// ResumeAsked. One that is late, for a job that does not run, changes nothing.
//
// Such a job runs from when it is submitted, without attempts: partners' agents
// train, and its rounds are stored beside it. It waits for nothing, and Placed,
// Finished and the other events of attempts are refused.
type (
	// RoundEnded: an attempt at a round has ended. Closed counts the rounds
	// that are part of the model by now; Metrics, of a round that was closed,
	// are the means of what partners told.
	RoundEnded struct {
		At      time.Time
		Closed  int
		Metrics map[string]float64
	}
	// FederationFailed: a round failed as often as it may, or what the rounds
	// made could not become a version. Resuming takes it up where it stands.
	FederationFailed struct {
		At  time.Time
		Err *galley.Error
	}
	// FederationCancelled: its rounds have ended because someone asked. They
	// are not taken up again.
	FederationCancelled struct{ At time.Time }
)

func (RoundEnded) event()          {}
func (FederationFailed) event()    {}
func (FederationCancelled) event() {}

// stepFederate is Step for jobs of kind Federate. Cancelling is asked for, and
// then confirmed by FederationCancelled, unless the model was published first.
// A job that ends for good asks for its work folder to be removed; one that
// failed keeps it.
func stepFederate(j Job, e Event) (Job, []Effect, error) {
	j.Metrics = maps.Clone(j.Metrics)
	j.Versions = slices.Clone(j.Versions)
	running := j.Phase == Running
	switch e := e.(type) {
	case RoundEnded:
		if !running || e.Closed < j.Progress.Step {
			return j, nil, nil
		}
		j.Progress.Step, j.Progress.Steps = min(e.Closed, j.Spec.Rounds), j.Spec.Rounds
		if len(e.Metrics) > 0 {
			j.Metrics = maps.Clone(e.Metrics)
		}
		j.Updated = e.At
	case Published:
		if !running {
			return j, nil, nil
		}
		// Who asked for a cancellation was too late.
		j.Phase, j.Cancelling, j.Updated = Succeeded, false, e.At
		j.Versions, j.Withheld = []string{e.Ref}, e.Withheld
		j.Progress.Step, j.Progress.Steps = j.Spec.Rounds, j.Spec.Rounds
		return j, []Effect{CleanUp{}}, nil
	case FederationFailed:
		if !running {
			return j, nil, nil
		}
		return j.fail(e.At, e.Err), nil, nil
	case FederationCancelled:
		if !running {
			return j, nil, nil
		}
		return j.cancelled(e.At), []Effect{CleanUp{}}, nil
	case CancelAsked:
		if !running {
			return j, nil, galley.Errorf(galley.FailedPrecondition, j.ID, "%s and cannot be cancelled", j.state())
		}
		if !j.Cancelling {
			j.Cancelling, j.Updated = true, e.At
		}
	case ResumeAsked:
		switch j.Phase {
		case Failed:
			j.Phase, j.Error, j.Updated = Running, nil, e.At
		case Cancelled:
			return j, nil, galley.Errorf(galley.FailedPrecondition, j.ID, "is cancelled, and partners no longer wait for its rounds").
				WithRemedy("submit its job file again")
		default:
			return j, nil, galley.Errorf(galley.FailedPrecondition, j.ID, "%s and has nothing to resume", j.state())
		}
	default:
		return j, nil, galley.Errorf(galley.Internal, j.ID, "a job of kind %s has no event %T", KindFederate, e)
	}
	return j, nil, nil
}

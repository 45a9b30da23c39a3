package trainer

import (
	"maps"
	"time"

	"galley"
)

// An Event happens to a job. Time is part of it: Step has no clock.
type Event interface{ event() }

// The events.
type (
	// Placed: the scheduler gave the job resources; its next attempt starts.
	Placed struct{ At time.Time }
	// Reported: the attempt came so far. Zero fields say nothing.
	Reported struct {
		At         time.Time
		Attempt    int
		Began      bool // the attempt's first report: Progress.Step is where it began
		Progress   Progress
		Metrics    map[string]float64
		Checkpoint int // a checkpoint of this step is on disk
	}
	// Finished: the attempt trained its model to the end.
	Finished struct {
		At      time.Time
		Attempt int
		Metrics map[string]float64
	}
	// Published: the model is in the registry.
	Published struct {
		At  time.Time
		Ref string
	}
	// Broke: the attempt ended with an error of its own making: the same
	// error would come again.
	Broke struct {
		At      time.Time
		Attempt int
		Err     *galley.Error
	}
	// Crashed: the attempt's process is gone without a word: killed, out of
	// memory, or with the machine. Interrupted says that the server stopped
	// it or went away itself, which does not count against the job.
	Crashed struct {
		At          time.Time
		Attempt     int
		Interrupted bool
		Err         *galley.Error
	}
	// CancelAsked: someone wants the job to end.
	CancelAsked struct{ At time.Time }
	// ResumeAsked: someone wants a failed or cancelled job to go on.
	ResumeAsked struct{ At time.Time }
)

func (Placed) event()      {}
func (Reported) event()    {}
func (Finished) event()    {}
func (Published) event()   {}
func (Broke) event()       {}
func (Crashed) event()     {}
func (CancelAsked) event() {}
func (ResumeAsked) event() {}

// An Effect is what the control loop has to do after a step. Effects are
// idempotent by job and attempt.
type Effect interface{ effect() }

// The effects.
type (
	// StartAttempt launches the numbered attempt.
	StartAttempt struct{ Attempt int }
	// StopAttempt asks the numbered attempt to store a checkpoint and end.
	StopAttempt struct{ Attempt int }
	// PublishModel puts the finished attempt's bundle into the registry.
	PublishModel struct{ Attempt int }
	// CleanUp removes the job's work folder.
	CleanUp struct{}
)

func (StartAttempt) effect() {}
func (StopAttempt) effect()  {}
func (PublishModel) effect() {}
func (CleanUp) effect()      {}

// Step is the life of a job as a pure function. An event of an attempt that
// is no longer the present one changes nothing: a stale attempt is fenced
// off. An event that makes no sense in the job's phase is refused with an
// error, and the job stays as it was.
func Step(j Job, e Event) (Job, []Effect, error) {
	j.Attempts = append([]Attempt(nil), j.Attempts...)
	j.Metrics = maps.Clone(j.Metrics)
	switch e := e.(type) {
	case Placed:
		return place(j, e)
	case Reported:
		return report(j, e), nil, nil
	case Finished:
		if !j.present(e.Attempt) {
			return j, nil, nil
		}
		j.end(e.At, "finished", nil)
		// Who asked for a cancellation was too late: the model is trained.
		j.Cancelling = false
		j.Metrics = maps.Clone(e.Metrics)
		return j, []Effect{PublishModel{e.Attempt}}, nil
	case Published:
		if !j.publishing() {
			return j, nil, nil
		}
		j.Phase, j.Updated = Succeeded, e.At
		j.Versions = []string{e.Ref}
		j.Progress.Step = j.Progress.Steps
		return j, []Effect{CleanUp{}}, nil
	case Broke:
		if !j.present(e.Attempt) {
			return j, nil, nil
		}
		j.end(e.At, "error", e.Err)
		return j.fail(e.At, e.Err), nil, nil
	case Crashed:
		return crash(j, e)
	case CancelAsked:
		return cancel(j, e)
	case ResumeAsked:
		return resume(j, e)
	default:
		return j, nil, galley.Errorf(galley.Internal, j.ID, "unknown event %T", e)
	}
}

func place(j Job, e Placed) (Job, []Effect, error) {
	if j.Phase != Queued {
		return j, nil, galley.Errorf(galley.FailedPrecondition, j.ID, "is %s, not queued", j.Phase)
	}
	n := len(j.Attempts) + 1
	j.Phase, j.Updated = Running, e.At
	j.Attempts = append(j.Attempts, Attempt{Number: n, Started: e.At})
	return j, []Effect{StartAttempt{n}}, nil
}

func report(j Job, e Reported) Job {
	if !j.present(e.Attempt) {
		return j
	}
	a := &j.Attempts[len(j.Attempts)-1]
	if e.Progress.Steps > 0 {
		checkpoint := j.Progress.Checkpoint
		j.Progress = e.Progress
		j.Progress.Checkpoint = checkpoint
		a.Step = e.Progress.Step
	}
	if e.Began {
		a.From = e.Progress.Step
	}
	if e.Checkpoint > 0 {
		j.Progress.Checkpoint, a.Checkpoint = e.Checkpoint, e.Checkpoint
	}
	if e.Metrics != nil {
		j.Metrics = maps.Clone(e.Metrics)
	}
	j.Updated = e.At
	return j
}

func crash(j Job, e Crashed) (Job, []Effect, error) {
	if !j.present(e.Attempt) {
		return j, nil, nil
	}
	outcome := "crashed"
	if e.Interrupted {
		outcome = "interrupted"
	}
	j.end(e.At, outcome, e.Err)
	if j.Cancelling {
		return j.cancelled(e.At), nil, nil
	}
	if j.barren() >= MaxCrashes {
		return j.fail(e.At, e.Err), nil, nil
	}
	j.Phase, j.Updated = Queued, e.At
	return j, nil, nil
}

func cancel(j Job, e CancelAsked) (Job, []Effect, error) {
	switch {
	case j.Phase == Queued:
		return j.cancelled(e.At), nil, nil
	case j.Phase == Running && j.present(len(j.Attempts)):
		j.Cancelling, j.Updated = true, e.At
		return j, []Effect{StopAttempt{len(j.Attempts)}}, nil
	default:
		return j, nil, galley.Errorf(galley.FailedPrecondition, j.ID, "is %s and cannot be cancelled", j.state())
	}
}

func resume(j Job, e ResumeAsked) (Job, []Effect, error) {
	if j.Phase != Failed && j.Phase != Cancelled {
		return j, nil, galley.Errorf(galley.FailedPrecondition, j.ID, "is %s and has nothing to resume", j.state())
	}
	j.Phase, j.Error, j.Updated, j.Cancelling = Queued, nil, e.At, false
	j.Resumed = len(j.Attempts)
	return j, nil, nil
}

// present reports whether the numbered attempt is the one that runs.
func (j Job) present(n int) bool {
	return j.Phase == Running && n > 0 && n == len(j.Attempts) && j.Attempts[n-1].Ended == nil
}

// publishing reports whether an attempt has finished, and its model is on the
// way into the registry.
func (j Job) publishing() bool {
	n := len(j.Attempts)
	return j.Phase == Running && n > 0 && j.Attempts[n-1].Outcome == "finished"
}

// state is the phase as a message says it.
func (j Job) state() string {
	if j.publishing() {
		return "being published"
	}
	return string(j.Phase)
}

// barren counts the last attempts since someone resumed the job that crashed
// without a checkpoint beyond where they began: the next attempt begins there
// again. Steps that no checkpoint holds are no progress.
func (j Job) barren() int {
	n := 0
	for i := len(j.Attempts) - 1; i >= j.Resumed; i-- {
		if a := j.Attempts[i]; a.Outcome != "crashed" || a.Checkpoint > a.From {
			break
		}
		n++
	}
	return n
}

func (j *Job) end(at time.Time, outcome string, err *galley.Error) {
	a := &j.Attempts[len(j.Attempts)-1]
	a.Ended, a.Outcome, a.Error = &at, outcome, err
}

func (j Job) fail(at time.Time, err *galley.Error) Job {
	j.Phase, j.Error, j.Updated = Failed, err, at
	if j.Cancelling {
		return j.cancelled(at)
	}
	return j
}

func (j Job) cancelled(at time.Time) Job {
	j.Phase, j.Cancelling, j.Updated, j.Error = Cancelled, false, at, nil
	return j
}

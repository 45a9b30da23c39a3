package trainer

import (
	"maps"
	"time"

	"galley"
)

// Step is the life of a job as a pure function. An event of an attempt that
// is no longer the present one changes nothing: a stale attempt is fenced
// off. An event that makes no sense in the job's phase is refused with an
// error, and the job stays as it was.
func Step(j Job, e Event) (Job, []Effect, error) {
	switch j.Spec.Kind {
	case KindPipeline:
		j, err := stepPipeline(j, e)
		return j, nil, err
	case KindFederate:
		return stepFederate(j, e)
	}
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
		j.end(e.At, "finished", "", nil)
		// Who asked for a cancellation was too late: the model is trained.
		j.Cancelling = false
		j.Metrics = maps.Clone(e.Metrics)
		return j, []Effect{PublishModel{e.Attempt}}, nil
	case Published:
		if !j.publishing() {
			return j, nil, nil
		}
		j.Phase, j.Updated = Succeeded, e.At
		j.Versions, j.Withheld = []string{e.Ref}, e.Withheld
		j.Progress.Step = j.Progress.Steps
		return j, []Effect{CleanUp{}}, nil
	case Broke:
		if !j.present(e.Attempt) {
			return j, nil, nil
		}
		j.end(e.At, "error", causeOf(e.Err), e.Err)
		return j.fail(e.At, e.Err), nil, nil
	case Crashed:
		return crash(j, e), nil, nil
	case PreemptAsked:
		return preempt(j, e)
	case NeedEnded:
		return needEnded(j, e), nil, nil
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
	j.Phase, j.Updated, j.NotBefore = Running, e.At, time.Time{}
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

func crash(j Job, e Crashed) Job {
	if !j.present(e.Attempt) {
		return j
	}
	cause := e.Cause
	if j.Preempting != "" && cause != Interrupted {
		cause = Preempted // however it ended, it was asked to
	}
	policy := PolicyOf(cause)
	outcome := "crashed"
	if policy.Free {
		outcome = string(cause)
	}
	j.end(e.At, outcome, cause, e.Err)
	if j.Cancelling {
		return j.cancelled(e.At)
	}
	row, same := j.barren()
	if !policy.Free && (row > j.Spec.Retries || same > policy.Retries) {
		return j.fail(e.At, e.Err)
	}
	j.Phase, j.Updated, j.QueuedAt = Queued, e.At, e.At
	if policy.Free {
		return j
	}
	if policy.MoreMemory {
		j.Memory *= 2
	}
	if row > 0 {
		j.NotBefore = e.At.Add(backOff(policy.BackOff, row))
	}
	return j
}

// backOff is the wait after so many attempts in a row.
func backOff(first time.Duration, row int) time.Duration {
	wait := first
	for i := 1; i < row && wait < MaxBackOff; i++ {
		wait *= 2
	}
	return min(wait, MaxBackOff)
}

// preempt stops the attempt that runs; a job that is past that has made room
// by itself.
func preempt(j Job, e PreemptAsked) (Job, []Effect, error) {
	n := len(j.Attempts)
	if !j.present(n) || j.Cancelling || j.Preempting != "" {
		return j, nil, nil
	}
	j.Preempting, j.Updated = e.For, e.At
	return j, []Effect{StopAttempt{n}}, nil
}

// needEnded ends a job that waits for one that failed or was cancelled, in
// the same way.
func needEnded(j Job, e NeedEnded) Job {
	if j.Phase != Queued {
		return j
	}
	if e.Phase == Cancelled {
		return j.cancelled(e.At)
	}
	return j.fail(e.At, galley.Errorf(galley.FailedPrecondition, "needs", "%s, which has to succeed first, has %s", e.Need, e.Phase).
		WithRemedy("resume that job, then this one: galley jobs resume"))
}

func cancel(j Job, e CancelAsked) (Job, []Effect, error) {
	switch {
	case j.Phase == Queued:
		return j.cancelled(e.At), nil, nil
	case j.Phase == Running && j.present(len(j.Attempts)):
		j.Cancelling, j.Updated = true, e.At
		return j, []Effect{StopAttempt{len(j.Attempts)}}, nil
	default:
		return j, nil, galley.Errorf(galley.FailedPrecondition, j.ID, "%s and cannot be cancelled", j.state())
	}
}

func resume(j Job, e ResumeAsked) (Job, []Effect, error) {
	if j.Phase != Failed && j.Phase != Cancelled {
		return j, nil, galley.Errorf(galley.FailedPrecondition, j.ID, "%s and has nothing to resume", j.state())
	}
	j.Phase, j.Error, j.Updated, j.QueuedAt = Queued, nil, e.At, e.At
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

// state says the phase, as the beginning of a message.
func (j Job) state() string {
	switch {
	case j.publishing():
		return "is being published"
	case j.Phase == Succeeded, j.Phase == Failed:
		return "has " + string(j.Phase)
	}
	return "is " + string(j.Phase)
}

// barren counts the last attempts since someone resumed the job that crashed
// without a checkpoint beyond where they began: the next attempt begins there
// again. Steps that no checkpoint holds are no progress. same are those of
// them with the cause of the last one. Attempts that were interrupted or
// preempted do not count, and do not break the row.
func (j Job) barren() (row, same int) {
	var last Cause
	for i := len(j.Attempts) - 1; i >= j.Resumed; i-- {
		a := j.Attempts[i]
		if a.Checkpoint > a.From {
			break
		}
		if a.Outcome != "crashed" {
			continue
		}
		if row++; row == 1 {
			last = a.Cause
		}
		if a.Cause == last {
			same++
		}
	}
	return row, same
}

func (j *Job) end(at time.Time, outcome string, cause Cause, err *galley.Error) {
	a := &j.Attempts[len(j.Attempts)-1]
	a.Ended, a.Outcome, a.Cause, a.Error = &at, outcome, cause, err
	j.Preempting = ""
}

func (j Job) fail(at time.Time, err *galley.Error) Job {
	j.Phase, j.Error, j.Updated, j.NotBefore = Failed, err, at, time.Time{}
	if j.Cancelling {
		return j.cancelled(at)
	}
	return j
}

func (j Job) cancelled(at time.Time) Job {
	j.Phase, j.Cancelling, j.Updated, j.Error, j.NotBefore = Cancelled, false, at, nil, time.Time{}
	return j
}

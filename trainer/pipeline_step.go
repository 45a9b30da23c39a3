package trainer

import (
	"slices"
	"time"

	"galley"
)

// A StepState is how far a step of a pipeline has come.
type StepState struct {
	ID         string        `json:"id"`
	Phase      Phase         `json:"phase"`                 // Queued until what it requires has succeeded
	Job        string        `json:"job,omitempty"`         // that makes, or made, its version
	SpecDigest galley.Digest `json:"spec_digest,omitempty"` // of its spec without references
	Reused     bool          `json:"reused,omitempty"`      // the result is one that was there: nothing was run
	Resuming   bool          `json:"resuming,omitempty"`    // its job is to be resumed
	Version    string        `json:"version,omitempty"`     // name@n that it made, measured or promoted
	Report     galley.Digest `json:"report,omitempty"`      // of what was measured
	Found      string        `json:"found,omitempty"`       // it in few words
	Error      *galley.Error `json:"error,omitempty"`
	Started    time.Time     `json:"started,omitzero"`
	Ended      time.Time     `json:"ended,omitzero"`
}

// The events of a pipeline's steps. One that is late, for a step that is not
// as the event expects, changes nothing.
type (
	// StepStarted: what the step requires has succeeded, and it is taken up.
	StepStarted struct {
		At   time.Time
		Step string
	}
	// StepPinned: the step's job will have this ID. It is submitted after that.
	StepPinned struct {
		At         time.Time
		Step       string
		Job        string
		SpecDigest galley.Digest
	}
	// StepResumed: the step's job goes on.
	StepResumed struct {
		At   time.Time
		Step string
	}
	// StepEnded: the step has a result, or has none and why.
	StepEnded struct {
		At      time.Time
		Step    string
		Phase   Phase // a final one
		Job     string
		Version string
		Report  galley.Digest
		Found   string
		Reused  bool
		Err     *galley.Error
	}
)

func (StepStarted) event() {}
func (StepPinned) event()  {}
func (StepResumed) event() {}
func (StepEnded) event()   {}

// Begin returns the states of the steps of a pipeline before any has started.
func (p Pipeline) Begin() []StepState {
	out := make([]StepState, len(p.Steps))
	for i, s := range p.Steps {
		out[i] = StepState{ID: s.ID, Phase: Queued}
	}
	return out
}

// A Duty is what is to be done now for a step of a pipeline.
type Duty int

// The duties. Each is done by asking for it again and again until it is:
// doing one twice is the same as once.
const (
	Await    Duty = iota // nothing, until something happens
	Start                // StepStarted
	Perform              // find its result or pin its job, or measure or promote; then StepEnded or StepPinned
	Submit               // its job, which is pinned
	Reopen               // resume its job, then StepResumed
	Reopened             // StepResumed
	Stop                 // cancel its job
	Conclude             // StepEnded, as its job ended; cancelled without one
)

// Duty says what is to be done for a step of a pipeline whose job is as given,
// nil if there is none. It follows from what is stored alone, so that nothing
// that a crash kept from being done is forgotten.
func (j Job) Duty(s StepState, child *Job) Duty {
	switch {
	case j.Phase != Running:
		return Await
	case s.Phase == Queued && j.ready(s):
		return Start
	case s.Phase != Running:
		return Await
	case s.Job == "" && !j.Cancelling:
		return Perform
	case child == nil && !j.Cancelling:
		return Submit
	case child == nil:
		return Conclude
	case s.Resuming && child.Phase != Succeeded && child.Phase.Final() && !j.Cancelling:
		return Reopen
	case child.Phase.Final():
		return Conclude
	case s.Resuming:
		return Reopened
	case j.Cancelling && !child.Cancelling:
		return Stop
	}
	return Await
}

// ready reports whether a step that waits may start.
func (j Job) ready(s StepState) bool {
	if j.Cancelling || s.Phase != Queued {
		return false
	}
	i := slices.IndexFunc(j.Spec.Steps, func(of PipelineStep) bool { return of.ID == s.ID })
	if i < 0 {
		return false
	}
	for _, id := range j.Spec.Steps[i].Requires() {
		if k := j.step(id); k < 0 || j.Steps[k].Phase != Succeeded {
			return false
		}
	}
	return true
}

func (j Job) step(id string) int {
	return slices.IndexFunc(j.Steps, func(s StepState) bool { return s.ID == id })
}

// StepVersions are the versions that the steps of a pipeline made so far.
func (j Job) StepVersions() map[string]string {
	out := map[string]string{}
	for i, s := range j.Steps {
		if s.Phase == Succeeded && j.Spec.Steps[i].Spec.makesVersion() {
			out[s.ID] = s.Version
		}
	}
	return out
}

// InputsDigest names what a job makes its version of: its spec, with data,
// parent and teachers as they are in the place of what the spec calls them. Jobs
// with the same one make the same, whether they say base, base:prod or base@2.
func (j Job) InputsDigest() galley.Digest {
	s := j.Spec
	s.Data.Dataset, s.Data.Unlabelled = string(j.DataDigest), j.Unlabelled
	if s.Kind == KindDistill {
		s.Student.From = string(j.Parent)
	} else {
		s.From = string(j.Parent)
	}
	s.Teachers = make([]string, len(j.Teachers))
	for i, t := range j.Teachers {
		s.Teachers[i] = string(t.Digest)
	}
	return s.Digest()
}

// stepPipeline is Step for jobs of kind Pipeline. They ask for no effects: what
// is to be done follows from their state, see Duty.
func stepPipeline(j Job, e Event) (Job, error) {
	j.Steps = slices.Clone(j.Steps)
	j.Versions = slices.Clone(j.Versions)
	change := func(id string, at time.Time, f func(s *StepState) bool) {
		if i := j.step(id); i >= 0 && j.Phase == Running && f(&j.Steps[i]) {
			j.Updated = at
		}
	}
	switch e := e.(type) {
	case StepStarted:
		change(e.Step, e.At, func(s *StepState) bool {
			if !j.ready(*s) {
				return false
			}
			s.Phase, s.Started, s.Ended = Running, e.At, time.Time{}
			return true
		})
	case StepPinned:
		change(e.Step, e.At, func(s *StepState) bool {
			if s.Phase != Running || s.Job != "" {
				return false
			}
			s.Job, s.SpecDigest = e.Job, e.SpecDigest
			return true
		})
	case StepResumed:
		change(e.Step, e.At, func(s *StepState) bool {
			was := s.Resuming
			s.Resuming = false
			return was
		})
	case StepEnded:
		change(e.Step, e.At, func(s *StepState) bool {
			if s.Phase != Running || !e.Phase.Final() {
				return false
			}
			s.Phase, s.Job, s.Version, s.Report, s.Found = e.Phase, e.Job, e.Version, e.Report, e.Found
			s.Reused, s.Error, s.Ended, s.Resuming = e.Reused, e.Err, e.At, false
			return true
		})
		j.conclude(e.At)
	case CancelAsked:
		if j.Phase != Running {
			return j, galley.Errorf(galley.FailedPrecondition, j.ID, "%s and cannot be cancelled", j.state())
		}
		if !j.Cancelling {
			j.Cancelling, j.Updated = true, e.At
			j.conclude(e.At)
		}
	case ResumeAsked:
		if j.Phase != Failed && j.Phase != Cancelled {
			return j, galley.Errorf(galley.FailedPrecondition, j.ID, "%s and has nothing to resume", j.state())
		}
		j.Phase, j.Error, j.Updated = Running, nil, e.At
		for i := range j.Steps {
			s := &j.Steps[i]
			if s.Phase == Cancelled && j.Spec.Steps[i].Spec.Kind == KindFederate {
				s.Job, s.SpecDigest = "", "" // rounds that were ended are not taken up: others begin
			}
			if s.Phase != Succeeded {
				s.Phase, s.Error, s.Resuming = Queued, nil, s.Job != ""
			}
		}
	default:
		return j, galley.Errorf(galley.Internal, j.ID, "a pipeline has no event %T", e)
	}
	return j, nil
}

// conclude ends a pipeline of which no step runs or can start.
func (j *Job) conclude(at time.Time) {
	var failed *StepState
	succeeded, cancelled, versions := 0, false, []string(nil)
	for i, s := range j.Steps {
		switch {
		case s.Phase == Succeeded:
			succeeded++
			if j.Spec.Steps[i].Spec.makesVersion() && !slices.Contains(versions, s.Version) {
				versions = append(versions, s.Version)
			}
		case s.Phase == Failed && failed == nil:
			failed = &j.Steps[i]
		case s.Phase == Cancelled:
			cancelled = true
		}
	}
	j.Versions = versions
	j.Progress.Step, j.Progress.Steps = succeeded, len(j.Steps)
	if j.Phase != Running || slices.ContainsFunc(j.Steps, func(s StepState) bool { return s.Phase == Running || j.ready(s) }) {
		return
	}
	switch {
	case succeeded == len(j.Steps):
		j.Phase = Succeeded
	case j.Cancelling:
		j.Phase = Cancelled
	case failed != nil:
		j.Phase, j.Error = Failed, failed.failure()
	case cancelled:
		j.Phase = Cancelled
	}
	j.Cancelling, j.Updated = false, at
}

// failure is why a pipeline failed whose step did.
func (s StepState) failure() *galley.Error {
	subject := "steps." + s.ID
	if s.Error == nil {
		return galley.Errorf(galley.FailedPrecondition, subject, "has failed")
	}
	e := galley.Errorf(s.Error.Code, subject, "%s", s.Error.Message)
	if s.Error.Subject != "" && s.Error.Subject != s.Job {
		e = galley.Errorf(s.Error.Code, subject, "%s: %s", s.Error.Subject, s.Error.Message)
	}
	e.Remedy = s.Error.Remedy
	return e
}

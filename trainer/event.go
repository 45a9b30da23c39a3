package trainer

import (
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
		At       time.Time
		Ref      string
		Withheld string // why it is not to be chosen, if so
	}
	// Broke: the attempt ended with an error of its own making: the same
	// error would come again.
	Broke struct {
		At      time.Time
		Attempt int
		Err     *galley.Error
	}
	// Crashed: the attempt's process is gone before its model was trained.
	Crashed struct {
		At      time.Time
		Attempt int
		Cause   Cause
		Err     *galley.Error
	}
	// PreemptAsked: a job of a higher priority needs the attempt's resources.
	PreemptAsked struct {
		At  time.Time
		For string // that job
	}
	// NeedEnded: a job that has to succeed first did not, and will not by
	// itself.
	NeedEnded struct {
		At    time.Time
		Need  string
		Phase Phase
	}
	// CancelAsked: someone wants the job to end.
	CancelAsked struct{ At time.Time }
	// ResumeAsked: someone wants a failed or cancelled job to go on.
	ResumeAsked struct{ At time.Time }
)

func (Placed) event()       {}
func (Reported) event()     {}
func (Finished) event()     {}
func (Published) event()    {}
func (Broke) event()        {}
func (Crashed) event()      {}
func (PreemptAsked) event() {}
func (NeedEnded) event()    {}
func (CancelAsked) event()  {}
func (ResumeAsked) event()  {}

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

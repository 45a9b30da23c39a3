// Package launch is the contract for where an attempt of a job runs: in a
// process of its own on this machine (launch/process), or elsewhere.
package launch

import (
	"context"
	"time"

	"galley"
	"galley/trainer"
	"galley/trainer/engine"
)

// Heartbeat is how often an attempt reports at least.
const Heartbeat = 5 * time.Second

// A Launcher starts attempts.
type Launcher interface {
	// Start starts an attempt, which is killed when ctx ends. An error means
	// that nothing runs.
	Start(ctx context.Context, r engine.Request) (Attempt, error)
}

// An Attempt is under way. Its methods may be called at any time, by several
// goroutines.
type Attempt interface {
	// Reports is what the attempt says, closed when it has ended. The attempt
	// waits for its reports to be received.
	Reports() <-chan Report
	// Stop asks the attempt to store a checkpoint and to end. One that takes
	// too long is killed.
	Stop()
	// Kill ends the attempt at once.
	Kill()
	// Wait returns how the attempt ended, after its last report.
	Wait() Outcome
}

// A Report is an event of the engine, a line of the attempt's log, or neither:
// a sign of life.
type Report struct {
	At    time.Time
	Event *engine.Event // nil but for an event
	Line  string        // "" but for a line
}

// An Ending says how an attempt ended.
type Ending int

// The endings.
const (
	// Finished: Outcome.Result holds the model.
	Finished Ending = iota
	// Failed: the engine gave up with an error that would come again.
	Failed
	// Stopped: it ended because it was asked to.
	Stopped
	// Crashed: it is gone without a word, or for lack of memory.
	Crashed
)

// An Outcome is how an attempt ended.
type Outcome struct {
	Ending Ending
	Result engine.Result
	Cause  trainer.Cause // if it crashed
	Err    *galley.Error // nil if it finished
}

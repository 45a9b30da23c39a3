package trainer

import (
	"time"

	"galley"
)

// A Cause is why an attempt ended before its model was trained.
type Cause string

// The causes. Each has a policy.
const (
	Interrupted Cause = "interrupted"   // the server stopped it, or went away itself
	Preempted   Cause = "preempted"     // it made room for a job of a higher priority
	Killed      Cause = "killed"        // something outside ended its process
	Died        Cause = "died"          // native code crashed, or the process ended without a result
	Hung        Cause = "hung"          // it gave no sign of life, or came no further, for too long
	OutOfMemory Cause = "out of memory" // the machine or its limit had no more
	NotStarted  Cause = "not started"   // the server could not start it; it may yet
	EngineError Cause = "engine error"  // the engine gave up: the same would come again
	BadSpec     Cause = "bad spec"      // what was asked for cannot be trained
)

// Causes are all causes, in the order of the documentation.
var Causes = []Cause{Interrupted, Preempted, Killed, Died, Hung, OutOfMemory, NotStarted, EngineError, BadSpec}

// A Policy is what happens after an attempt ended for a cause.
type Policy struct {
	// Free attempts are repeated at once, any number of them.
	Free bool
	// Retries bounds the attempts in a row, without a checkpoint beyond where
	// they began, that are repeated after this cause; a job's own budget
	// (Spec.Retries) bounds those of all causes.
	Retries int
	// BackOff is the wait after the first such attempt; it doubles with each,
	// up to MaxBackOff. An attempt that stored a checkpoint is repeated at
	// once.
	BackOff time.Duration
	// MoreMemory doubles the memory that the next attempt reserves.
	MoreMemory bool
}

// MaxBackOff bounds the wait between two attempts.
const MaxBackOff = 5 * time.Minute

// maxRetries bounds a job's budget of retries.
const maxRetries = 100

// policies are what Step does about each cause. A smaller batch, summed over
// more steps, would get round a lack of memory, but its sums are other bits:
// the model would not be the one that was asked for. So the same attempt is
// made once more with more of the machine to itself, and then given up with
// the remedy.
var policies = map[Cause]Policy{
	Interrupted: {Free: true},
	Preempted:   {Free: true},
	Killed:      {Retries: maxRetries, BackOff: time.Second},
	Died:        {Retries: maxRetries, BackOff: time.Second},
	Hung:        {Retries: 1, BackOff: 10 * time.Second},
	OutOfMemory: {Retries: 1, BackOff: 10 * time.Second, MoreMemory: true},
	NotStarted:  {Retries: maxRetries, BackOff: 5 * time.Second},
	EngineError: {},
	BadSpec:     {},
}

// PolicyOf returns the policy of a cause; one that is not known has that of
// Died.
func PolicyOf(c Cause) Policy {
	if p, ok := policies[c]; ok {
		return p
	}
	return policies[Died]
}

// causeOf tells an error of the engine's own from one of what was asked for.
func causeOf(err *galley.Error) Cause {
	switch galley.CodeOf(err) {
	case galley.InvalidArgument, galley.OutOfRange, galley.NotFound, galley.FailedPrecondition:
		return BadSpec
	default:
		return EngineError
	}
}

package experiment

import (
	"math"
	"time"

	"galley"
)

// A Shadow makes an experiment ask the treatment beside the control, which
// answers all requests: nothing of the treatment reaches a caller. What is
// measured is how often the two agree.
type Shadow struct {
	// Budget is the share of the machine's processors that the treatment may
	// take at most, from 0 to 1.
	Budget float64 `json:"budget"`
	// Share is that of the requests that the treatment is asked, too, in Parts.
	Share int `json:"share"`
}

// DefaultBudget is half of a machine.
const DefaultBudget = 0.5

// NewShadow makes a shadow of a percentage of the requests; a budget of 0 is
// the default.
func NewShadow(percentage, budget float64) (*Shadow, error) {
	if budget == 0 {
		budget = DefaultBudget
	}
	s := &Shadow{Budget: budget, Share: int(math.Round(percentage * Parts / 100))}
	if !(percentage > 0 && percentage <= 100) {
		s.Share = 0
	}
	return s, s.check()
}

// check holds a shadow to its bounds.
func (s *Shadow) check() error {
	if s.Share < 1 || s.Share > Parts {
		return galley.Errorf(galley.InvalidArgument, "shadow", "the share of the requests is out of range").
			WithRemedy("write a percentage over 0 and at most 100")
	}
	if !(s.Budget > 0 && s.Budget <= 1) {
		return galley.Errorf(galley.InvalidArgument, "budget", "%g is not a share of the machine", s.Budget).
			WithRemedy("write a number over 0 and at most 1")
	}
	return nil
}

// A Drop is why a request was not put to the treatment that was to be.
type Drop uint8

// The reasons.
const (
	NoRoom Drop = iota // too many waited: the budget is spent, or the treatment is slow
	NoIdle             // the control was never idle
)

// Drops are all reasons.
var Drops = [2]Drop{NoRoom, NoIdle}

func (d Drop) String() string {
	if d == NoIdle {
		return "no-idle"
	}
	return "no-room"
}

// Pause is how long the treatment rests after a run of a time, so that it
// takes no more than its budget of a machine with so many processors.
func (s *Shadow) Pause(ran time.Duration, processors int) time.Duration {
	return time.Duration(max(0, float64(ran)*(1/(s.Budget*float64(processors))-1)))
}

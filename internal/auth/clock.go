package auth

import (
	"sync/atomic"
	"time"
)

// settling is how long after its start a clock is believed whatever it says:
// machines set theirs soon after they start.
const settling = 10 * time.Minute

// A Clock tells the time that tokens expire by. It is the wall's, but never
// less than the wall's at the start and what has really passed since: so a
// wall clock that is set back brings no expired token back. One that is set
// ahead ends tokens before their time, until it is set right. It is safe for
// concurrent use.
type Clock struct {
	wall    func() time.Time
	passed  func() time.Duration
	started atomic.Pointer[time.Time] // by the wall
}

// NewClock makes a clock of the wall's and of one that nobody sets: it says
// how long ago some moment was.
func NewClock(wall func() time.Time, passed func() time.Duration) *Clock {
	c := &Clock{wall: wall, passed: passed}
	c.settle(wall(), passed())
	return c
}

// settle takes the wall's word for when the start was. Round drops what a time
// knows of the other clock.
func (c *Clock) settle(now time.Time, passed time.Duration) {
	started := now.Round(0).Add(-passed)
	c.started.Store(&started)
}

// Now returns the time, UTC.
func (c *Clock) Now() time.Time {
	now, passed := c.wall(), c.passed()
	if passed < settling {
		c.settle(now, passed)
	}
	if least := c.started.Load().Add(passed); now.Before(least) {
		now = least
	}
	return now.UTC()
}

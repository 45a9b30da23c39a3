package auth

import (
	"testing"
	"time"

	"galley"
)

// hands are two clocks of a machine: one that is set, and one that is not.
type hands struct {
	wall   time.Time
	passed time.Duration
}

func (h *hands) clock() *Clock {
	return NewClock(func() time.Time { return h.wall }, func() time.Duration { return h.passed })
}

func (h *hands) pass(d time.Duration) { h.wall, h.passed = h.wall.Add(d), h.passed+d }

func (h *hands) set(by time.Duration) { h.wall = h.wall.Add(by) }

// A clock that is set back brings no expired token back; one that was set
// ahead and is right again takes none away.
func TestClockIsSet(t *testing.T) {
	token, secret := issue("cms", Application, time.Hour)
	gone, goneSecret := issue("gone", Application, time.Hour)
	gone.Revoked = noon
	k := NewKeyring([]Token{token, gone})
	h := &hands{wall: noon, passed: settling}
	c := h.clock()
	for i, step := range []struct {
		pass, set time.Duration
		live      bool
	}{
		{0, 0, true},
		{0, -48 * time.Hour, true},
		{59 * time.Minute, 0, true},   // by what has passed; the wall is two days behind
		{0, 48 * time.Hour, true},     // right again
		{0, 87600 * time.Hour, false}, // ahead
		{30 * time.Second, 0, false},
		{0, -87600 * time.Hour, true}, // right again
		{30 * time.Second, 0, false},  // expired
		{0, -time.Hour, false},
		{time.Minute, -1000 * time.Hour, false},
		{0, 1001 * time.Hour, false},
	} {
		h.pass(step.pass)
		h.set(step.set)
		if _, err := k.Authenticate(secret, c.Now()); (err == nil) != step.live || k.HasLive(Application, c.Now()) != step.live {
			t.Errorf("step %d: %v", i, err)
		}
		if err := k.Check(gone.ID, c.Now()); galley.CodeOf(err) != galley.Unauthenticated {
			t.Errorf("step %d: revoked, %v", i, err)
		}
		if _, err := k.Authenticate(goneSecret, c.Now()); err == nil {
			t.Errorf("step %d: revoked", i)
		}
	}
}

// A machine that sets its clock soon after the start is believed, also back.
func TestClockSettles(t *testing.T) {
	for _, wrong := range []time.Duration{8 * time.Hour, -8 * time.Hour} {
		h := &hands{wall: noon.Add(wrong)}
		c := h.clock()
		h.pass(time.Minute)
		h.set(-wrong)
		if now := c.Now(); !now.Equal(noon.Add(time.Minute)) {
			t.Errorf("%s: %s", wrong, now)
		}
		h.pass(settling)
		want := c.Now()
		h.set(-wrong)
		if now := c.Now(); now.Before(want) {
			t.Errorf("%s: back to %s", wrong, now)
		}
	}
}

package partner

import (
	"encoding/json"
	"errors"
	"os"
	"sync"
	"time"

	"galley"
)

// statusFile says what a serving agent is at.
const statusFile = "status.json"

// Doing is what a serving agent is at.
type Doing struct {
	State     string    `json:"state"` // connecting, waiting, fetching, training, sending, stopped
	Since     time.Time `json:"since"`
	Run       string    `json:"run,omitempty"`
	Round     int       `json:"round,omitempty"`
	Connected bool      `json:"connected"`
	Trouble   string    `json:"trouble,omitempty"` // why it is not connected
}

// A Status is what an agent's home says of it.
type Status struct {
	Partner     string        `json:"partner"`
	Certificate galley.Digest `json:"certificate"`
	Expires     time.Time     `json:"expires"`
	Next        galley.Digest `json:"next_certificate,omitempty"` // of a rotation that the coordinator has not accepted yet
	Federation  string        `json:"federation,omitempty"`
	Coordinator string        `json:"coordinator,omitempty"`
	Agreement   galley.Digest `json:"agreement,omitempty"`
	Ends        time.Time     `json:"agreement_expires,omitzero"`
	Answered    int           `json:"answered"` // rounds, in all runs
	Rounds      int           `json:"rounds"`   // that the agreement permits
	Last        LastRun       `json:"last_run,omitzero"`
	Serving     bool          `json:"serving"`
	Doing       *Doing        `json:"doing,omitempty"`
	Sent        []Sent        `json:"sent"` // the last that left
}

// statusSent is how much of the record a status shows.
const statusSent = 5

// ReadStatus reads the status of an agent that may be serving.
func ReadStatus(dir string) (Status, error) {
	h := &home{dir: dir}
	var s Status
	var i, next Identity
	var rotating bool
	err := withIdentities(dir, func() (err error) {
		if i, err = loadIdentity(dir); err == nil {
			next, rotating, err = nextIdentity(dir)
		}
		return err
	})
	if err != nil {
		return s, err
	}
	s = Status{Partner: i.Partner, Certificate: i.Fingerprint(), Expires: i.Certificate.NotAfter, Sent: []Sent{}}
	if rotating {
		s.Next = next.Fingerprint()
	}
	m, err := h.membership()
	if galley.CodeOf(err) == galley.NotFound {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	l, err := h.ledger()
	if err != nil {
		return s, err
	}
	s.Federation, s.Coordinator, s.Agreement, s.Ends, s.Rounds = m.Terms.Federation, m.Coordinator, m.Agreement, m.Terms.Expires, m.Terms.Rounds
	s.Answered = answered(l, m.Terms.Federation)
	if s.Last, err = h.lastRun(m.Terms.Federation); err != nil {
		return s, err
	}
	sent, err := lastSent(dir, statusSent)
	if err != nil {
		return s, err
	}
	s.Sent = append(s.Sent, sent...)
	if s.Serving, err = locked(h.path(homeLock)); err != nil || !s.Serving {
		return s, err
	}
	var d Doing
	switch err := readJSON(h.path(statusFile), maxMembership, &d); galley.CodeOf(err) {
	case "":
		s.Doing = &d
	case galley.NotFound:
	default:
		return s, err
	}
	return s, nil
}

// A reporter writes what the agent is at: a round, or else whether it is
// connected. A status that cannot be written costs the status.
type reporter struct {
	home *home
	now  func() time.Time

	mu        sync.Mutex
	work      Doing // State is "" between rounds
	connected bool
	trouble   string
	said      Doing
}

// working says what is done of a round; the zero Doing is for nothing.
func (r *reporter) working(d Doing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.work = d
	r.write()
}

// linked says whether the coordinator is reached, and why not.
func (r *reporter) linked(connected bool, trouble string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.connected, r.trouble = connected, galley.Clip(trouble, 500)
	r.write()
}

func (r *reporter) write() {
	d := r.work
	switch {
	case d.State != "":
	case r.connected:
		d.State = "waiting"
	default:
		d.State = "connecting"
	}
	d.Connected, d.Trouble, d.Since = r.connected, r.trouble, r.said.Since
	if d == r.said {
		return
	}
	d.Since = r.now().UTC()
	r.said = d
	data, _ := json.Marshal(d) // strings, numbers and times
	next := r.home.path(statusFile + ".tmp")
	_ = errors.Join(os.WriteFile(next, data, 0o600), os.Rename(next, r.home.path(statusFile)))
}

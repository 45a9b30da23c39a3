package experiment

import (
	"strconv"
	"strings"
	"time"

	"galley"
)

// A Ramp makes a canary of an experiment: the treatment's share goes up by
// itself while no guardrail is broken.
type Ramp struct {
	Shares []int         `json:"shares"` // of the treatment, in Parts, rising; the first is that of the start
	Every  time.Duration `json:"every"`  // at the least, between two steps
}

// Bounds of a ramp.
const (
	maxSteps = 50
	minEvery = time.Second
	maxEvery = 30 * 24 * time.Hour
)

// ParseRamp reads the treatment's shares in percent, as in "1,5,25,50".
func ParseRamp(s string, every time.Duration) (*Ramp, error) {
	r := &Ramp{Every: every}
	for _, text := range strings.Split(s, ",") {
		treatment, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(text), "%"), 64)
		if err == nil && !(treatment >= 0 && treatment <= 100) {
			err = strconv.ErrRange
		}
		if err != nil {
			return nil, galley.Errorf(galley.InvalidArgument, "canary", "%q is not a share from 0 to 100", galley.Clip(text, 80)).
				WithRemedy("write the treatment's percents, rising, as in 1,5,25,50")
		}
		share, err := ParseSplit(strconv.FormatFloat(100-treatment, 'f', -1, 64) + "/" + strconv.FormatFloat(treatment, 'f', -1, 64))
		if err != nil {
			return nil, err
		}
		r.Shares = append(r.Shares, share)
	}
	return r, r.check(r.Shares[0])
}

// check holds a ramp that begins with a share to its bounds.
func (r *Ramp) check(first int) error {
	if r == nil {
		return nil
	}
	wrong := func(format string, args ...any) error {
		return galley.Errorf(galley.InvalidArgument, "canary", format, args...).WithRemedy("write the treatment's percents, rising, as in 1,5,25,50")
	}
	if len(r.Shares) < 2 || len(r.Shares) > maxSteps {
		return wrong("it has %d steps, not 2 to %d", len(r.Shares), maxSteps)
	}
	if r.Shares[0] != first {
		return wrong("it begins at %s percent, and the split at %s", percent(r.Shares[0]), percent(first))
	}
	for i, share := range r.Shares {
		if err := checkShare(share); err != nil {
			return err
		}
		if i > 0 && share <= r.Shares[i-1] {
			return wrong("%s percent follow %s", percent(share), percent(r.Shares[i-1]))
		}
	}
	if r.Every < minEvery || r.Every > maxEvery {
		return galley.Errorf(galley.InvalidArgument, "canary", "a step every %s is out of range", r.Every).WithRemedy("choose from %s to %s", minEvery, maxEvery)
	}
	return nil
}

// Next returns the share that the treatment gets next and when it may; false
// if it has come to the end, or is no canary.
func (e Experiment) Next() (share int, at time.Time, ok bool) {
	if e.Ramp == nil || e.State != Running {
		return 0, time.Time{}, false
	}
	for _, share := range e.Ramp.Shares {
		if share > e.Stage().Treatment {
			return share, e.Stage().Since.Add(e.Ramp.Every), true
		}
	}
	return 0, time.Time{}, false
}

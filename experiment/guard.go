package experiment

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"galley"
)

// A Measure is what a guardrail watches.
type Measure string

// The measures.
const (
	ErrorRate Measure = "error_rate" // share of requests that failed, beyond the control's
	P99       Measure = "p99"        // of the time of answers, in milliseconds
	Empty     Measure = "empty"      // share of answers without an answer in them, beyond the control's
)

// A Guard is a bound that the treatment must keep.
type Guard struct {
	Measure Measure `json:"measure"`
	Max     float64 `json:"max"`
}

func (g Guard) String() string {
	return string(g.Measure) + "=" + strconv.FormatFloat(g.Max, 'g', -1, 64)
}

// Guards are the guardrails of an experiment, over a window that slides.
type Guards struct {
	Rules           []Guard       `json:"rules"`
	Window          time.Duration `json:"window"`
	MinimumRequests int           `json:"minimum_requests"` // of the treatment in the window, to judge at all
}

// Bounds and defaults of guardrails.
const (
	DefaultWindow   = 10 * time.Second
	DefaultMinimum  = 50
	minWindow       = time.Second
	maxWindow       = 10 * time.Minute
	maxMinimum      = 1_000_000
	defaultMaxShare = 0.1
)

// DefaultGuards end an experiment whose treatment fails, or answers nothing,
// in more than a tenth of its requests.
func DefaultGuards() Guards {
	return Guards{
		Rules:  []Guard{{ErrorRate, defaultMaxShare}, {Empty, defaultMaxShare}},
		Window: DefaultWindow, MinimumRequests: DefaultMinimum,
	}
}

// ParseGuard reads "error_rate=0.02", "empty=0.1" or "p99=50ms".
func ParseGuard(s string) (Guard, error) {
	name, value, _ := strings.Cut(s, "=")
	g := Guard{Measure: Measure(name)}
	if d, err := time.ParseDuration(value); err == nil && g.Measure == P99 {
		g.Max = float64(d) / float64(time.Millisecond)
	} else if g.Max, err = strconv.ParseFloat(value, 64); err != nil {
		return g, galley.Errorf(galley.InvalidArgument, "guardrail", "%q is not a measure and its bound", galley.Clip(s, 80)).
			WithRemedy("write error_rate=0.02, empty=0.1 or p99=50ms")
	}
	return g, g.check()
}

func (g Guard) check() error {
	wrong := galley.Errorf(galley.InvalidArgument, "guardrail", "%s is not a bound", g).WithRemedy("write error_rate=0.02, empty=0.1 or p99=50ms")
	switch g.Measure {
	case ErrorRate, Empty:
		if !(g.Max >= 0 && g.Max < 1) {
			return wrong.WithRemedy("a share is from 0 to less than 1")
		}
	case P99:
		if !(g.Max > 0 && g.Max <= float64(time.Hour/time.Millisecond)) {
			return wrong.WithRemedy("a time is more than 0 and at most an hour")
		}
	default:
		return galley.Errorf(galley.InvalidArgument, "guardrail", "%q is not a measure", galley.Clip(string(g.Measure), 80)).
			WithRemedy("choose error_rate, empty or p99")
	}
	return nil
}

// Check holds guardrails to their bounds.
func (g Guards) Check() error {
	for i, rule := range g.Rules {
		if err := rule.check(); err != nil {
			return err
		}
		if slices.ContainsFunc(g.Rules[:i], func(other Guard) bool { return other.Measure == rule.Measure }) {
			return galley.Errorf(galley.InvalidArgument, "guardrail", "%s has two bounds", rule.Measure).WithRemedy("give one")
		}
	}
	if g.Window < minWindow || g.Window > maxWindow {
		return galley.Errorf(galley.InvalidArgument, "guardrail", "the window %s is out of range", g.Window).WithRemedy("choose from %s to %s", minWindow, maxWindow)
	}
	if g.MinimumRequests < 1 || g.MinimumRequests > maxMinimum {
		return galley.Errorf(galley.InvalidArgument, "guardrail", "%d requests are not a minimum", g.MinimumRequests).WithRemedy("choose from 1 to %d", maxMinimum)
	}
	return nil
}

// Figures are what an arm did in a window.
type Figures struct {
	Requests int64         `json:"requests"` // answered or failed
	Errors   int64         `json:"errors"`
	Empty    int64         `json:"empty"`
	P99      time.Duration `json:"p99_ns"` // of the answered ones: the upper end of its bucket
}

// Value returns a measure: a share, or milliseconds.
func (f Figures) Value(m Measure) float64 {
	switch m {
	case ErrorRate:
		return share(f.Errors, f.Requests)
	case Empty:
		return share(f.Empty, f.Requests-f.Errors)
	case P99:
		return float64(f.P99) / float64(time.Millisecond)
	default:
		return math.NaN()
	}
}

func share(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// Judge returns the first guardrail that the treatment breaks. Shares count
// beyond the control's: what both arms fail at, as they do with requests that
// are wrong, is not the treatment's fault.
func (g Guards) Judge(figures [2]Figures) (Guard, bool) {
	treatment := figures[Treatment]
	if treatment.Requests < int64(g.MinimumRequests) {
		return Guard{}, false
	}
	for _, rule := range g.Rules {
		most := rule.Max
		if rule.Measure != P99 {
			most += figures[Control].Value(rule.Measure)
		}
		if treatment.Value(rule.Measure) > most {
			return rule, true
		}
	}
	return Guard{}, false
}

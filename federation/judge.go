package federation

import (
	"crypto/ed25519"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"galley"
)

// A Verdict says what becomes of an update. The zero verdict accepts it.
type Verdict struct {
	Reason  Reason
	Message string
	Resent  bool // it is the update that was accepted already, and counts once
}

// OK reports whether the partner has done its part.
func (v Verdict) OK() bool { return v.Reason == "" }

// Error is the refusal as the partner's agent gets it; nil if there is none.
func (v Verdict) Error() error {
	if v.OK() {
		return nil
	}
	code := galley.InvalidArgument
	switch v.Reason {
	case NotAsked, WrongAgreement, NotAgreed:
		code = galley.PermissionDenied
	case BadSignature:
		code = galley.Unauthenticated
	case Stale, Duplicate:
		code = galley.FailedPrecondition
	case Late:
		code = galley.DeadlineExceeded
	case WrongProtocol:
		code = galley.Unimplemented
	case TooLarge:
		code = galley.ResourceExhausted
	case Damaged:
		code = galley.DataLoss
	}
	return galley.Errorf(code, "update", "%s: %s", v.Reason, v.Message).
		WithRemedy("it counts for nothing; wait for the next offer")
}

func refusef(reason Reason, format string, args ...any) Verdict {
	return Verdict{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Judge says what becomes of an update, without changing the round.
func (r Round) Judge(s Submitted) Verdict {
	h := s.Header
	i := r.find(h.Partner)
	if i < 0 || h.Federation != r.Terms.Federation {
		return refusef(NotAsked, "%q is not in the round's cohort", galley.Clip(h.Partner, 80))
	}
	e := r.Cohort[i]
	if v := r.checkOrigin(e, h); !v.OK() {
		return v
	}
	if e.Header != nil && e.Standing == Accepted {
		if h.Update == e.Header.Update && h.Rows == e.Header.Rows && maps.Equal(h.Metrics, e.Header.Metrics) {
			return Verdict{Resent: true}
		}
		return refusef(Duplicate, "another update, %s, was accepted", e.Header.Update.Short())
	}
	if r.Phase != Collecting || e.Standing != Offered || !s.At.Before(r.Deadline) {
		return refusef(Late, "came at %s; %s", s.At.UTC().Format(time.RFC3339), r.since(e))
	}
	switch {
	case s.Fault != nil:
		return refusef(s.Fault.Reason, "%s", galley.Clip(s.Fault.Message, 200))
	case s.Finding.Digest != h.Update:
		return refusef(Damaged, "has other bytes than were signed: %s", s.Finding.Digest.Short())
	case math.IsNaN(s.Finding.Norm) || math.IsInf(s.Finding.Norm, 0):
		return refusef(NotFinite, "its norm is not finite")
	case r.Terms.MaxNorm > 0 && s.Finding.Norm > r.Terms.MaxNorm:
		return refusef(TooFar, "its norm is %.4g; the round takes at most %g", s.Finding.Norm, r.Terms.MaxNorm)
	}
	return r.checkFigures(e, h)
}

// checkOrigin checks what the header says of itself.
func (r Round) checkOrigin(e Entry, h SignedHeader) Verdict {
	switch {
	case h.Protocol != r.Protocol || !slices.Equal(h.Capabilities, r.Capabilities):
		return refusef(WrongProtocol, "is of version %d with %d capabilities; the round is of version %d with %d", h.Protocol, len(h.Capabilities), r.Protocol, len(r.Capabilities))
	case len(e.Key) != ed25519.PublicKeySize || !h.Verify(e.Key):
		return refusef(BadSignature, "is not signed with the key of %s", e.Partner)
	case h.Agreement != e.Agreement:
		return refusef(WrongAgreement, "was made under the agreement %s; the round's is %s", h.Agreement.Short(), e.Agreement.Short())
	case h.Run != r.Terms.Run:
		return refusef(Stale, "is for the run %q of the federation; this is %q", galley.Clip(h.Run, 80), r.Terms.Run)
	case h.Round != r.Number || h.Attempt != r.Attempt:
		return refusef(Stale, "is for round %d, attempt %d; this is round %d, attempt %d", h.Round, h.Attempt, r.Number, r.Attempt)
	case h.Base != r.Base:
		return refusef(Stale, "began with the weights %s; the round's are %s", h.Base.Short(), r.Base.Short())
	}
	return Verdict{}
}

// checkFigures checks the numbers that were told beside the update.
func (r Round) checkFigures(e Entry, h SignedHeader) Verdict {
	if !(Agreement{Leaves: Leaves{Rows: e.Rows}}).tells(h.Rows) {
		return refusef(WrongRows, "says %d rows; its agreement declares %s", h.Rows, e.Rows)
	}
	for name, v := range h.Metrics {
		if !slices.Contains(r.Terms.Metrics, name) {
			return refusef(NotAgreed, "tells the metric %q, which was not asked for", galley.Clip(name, 80))
		}
		if !measured(v) {
			return refusef(NotFinite, "its metric %q is not a number from -%g to %[2]g", name, maxMetric)
		}
	}
	return Verdict{}
}

// maxMetric bounds a metric: means of partners' metrics are numbers, too, and a
// record that has others cannot be stored.
const maxMetric = 1e100

// measured reports whether a metric can be told.
func measured(v float64) bool { return math.Abs(v) <= maxMetric } // NaN is not

// since says why an entry of a round takes no update any more.
func (r Round) since(e Entry) string {
	switch {
	case e.Standing != Offered && e.Standing != Straggler:
		return fmt.Sprintf("its partner's part in the round is over: %s", e.Standing)
	case r.Phase != Collecting:
		return fmt.Sprintf("the round is %s", r.Phase)
	default:
		return "the deadline was " + r.Deadline.UTC().Format(time.RFC3339)
	}
}

// String says what the agreement declares, for messages.
func (c RowCount) String() string {
	switch c.Report {
	case Hidden:
		return "none to be told"
	case Rounded:
		return fmt.Sprintf("multiples of %d, at most %d", c.Unit, c.Most)
	default:
		return fmt.Sprintf("at most %d", c.Most)
	}
}

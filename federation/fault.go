package federation

import "fmt"

// A Reason says why an update has no part in the aggregate.
type Reason string

// The reasons, in the order in which an update is judged.
const (
	NotAsked       Reason = "not-asked"       // the partner is not in the cohort
	WrongProtocol  Reason = "wrong-protocol"  // another version, or capabilities that were not offered
	BadSignature   Reason = "bad-signature"   // not signed with the partner's key
	WrongAgreement Reason = "wrong-agreement" // signed under another agreement than the round's
	Stale          Reason = "stale"           // made for another run, round, attempt or base
	Duplicate      Reason = "duplicate"       // another update was accepted already
	Late           Reason = "late"            // after the deadline
	Damaged        Reason = "damaged"         // cut off, or not the bytes that were signed
	WrongShape     Reason = "wrong-shape"     // other tensors than the model's
	TooLarge       Reason = "too-large"       // more bytes than the model has
	NotFinite      Reason = "not-finite"      // NaN or infinite, or would make the model so
	TooFar         Reason = "too-far"         // a norm above the round's limit
	WrongRows      Reason = "wrong-rows"      // not a number of rows that the agreement declares
	NotAgreed      Reason = "not-agreed"      // metrics that the round did not ask for
)

// A Fault is what is wrong with the bytes of an update.
type Fault struct {
	Reason  Reason `json:"reason"`
	Message string `json:"message"`
}

func (f *Fault) Error() string { return string(f.Reason) + ": " + f.Message }

func faultf(reason Reason, format string, args ...any) *Fault {
	return &Fault{reason, fmt.Sprintf(format, args...)}
}

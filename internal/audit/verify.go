package audit

import (
	"fmt"

	"galley"
)

// A Verifier checks a log, entry by entry from the first.
type Verifier struct {
	at   Head
	kept []Head // not reached yet, in their order
}

// NewVerifier makes a verifier of a log from its beginning. The log must go
// through each of the heads, which are given in the order of their entries.
func NewVerifier(kept ...Head) *Verifier {
	return &Verifier{at: Head{Digest: Start}, kept: kept}
}

// At returns the head of the entries that were added.
func (v *Verifier) At() Head { return v.at }

// Add checks the next entry. Its error names the first entry that is wrong;
// nothing is to be added after it.
func (v *Verifier) Add(e Entry) error {
	if err := v.reach(); err != nil {
		return err
	}
	next := v.at.Entries + 1
	switch {
	case e.Number > next:
		return fault(next, "is missing: entry %d follows entry %d", e.Number, v.at.Entries)
	case e.Number < next:
		return fault(next, "is out of its place: there is an entry with the number %d instead", e.Number)
	case e.Sum(v.at.Digest) != e.Digest:
		return fault(next, "was altered, or the entry before it was: its digest is not that of its content and place")
	}
	v.at = Head{next, e.Digest}
	return v.reach()
}

// Finish ends the log. Its error says that entries of a head are cut off.
func (v *Verifier) Finish() error {
	if err := v.reach(); err != nil {
		return err
	}
	if len(v.kept) > 0 {
		return fault(v.at.Entries+1, "is cut off: the log ends before it, and the head has %d entries", v.kept[len(v.kept)-1].Entries)
	}
	return nil
}

// reach compares the log with the heads that it has come to.
func (v *Verifier) reach() error {
	for len(v.kept) > 0 && v.kept[0].Entries <= v.at.Entries {
		h := v.kept[0]
		if h != v.at {
			return fault(max(h.Entries, 1), "or one before it was altered: the log up to it has the digest %s, the head %s", v.at.Digest.Short(), h.Digest.Short())
		}
		v.kept = v.kept[1:]
	}
	return nil
}

// fault is the error of a log that is not what it was.
func fault(number int64, format string, args ...any) error {
	return galley.Errorf(galley.DataLoss, fmt.Sprint("audit entry ", number), format, args...).
		WithRemedy("the log was changed from outside: find out by whom, and restore a backup whose log verifies")
}

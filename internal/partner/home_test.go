package partner

import (
	"testing"

	"galley/federation"
)

// A ledger of an earlier release, which had each answer in it, still says what
// was answered.
func TestEarlierLedger(t *testing.T) {
	h := &home{dir: t.TempDir()}
	earlier := federation.Ledger{}
	for round := 1; round <= 3; round++ {
		earlier.Answers = append(earlier.Answers, federation.SignedHeader{Header: federation.Header{Federation: "headlines", Run: "job-1", Round: round, Attempt: 1, Base: "sha256:a"}})
	}
	if err := h.keepLedger(earlier); err != nil {
		t.Fatal(err)
	}
	l, err := h.ledger()
	if err != nil || answered(l, "headlines") != 3 || len(l.Answers) != 1 || l.Answers[0].Round != 3 {
		t.Fatalf("%+v, %v", l, err)
	}
	if _, _, err := l.Find(federation.Offer{Federation: "headlines", Run: "job-1", Round: 2, Attempt: 2, Base: "sha256:a"}); err == nil {
		t.Error("a round that was answered is answered again")
	}
}

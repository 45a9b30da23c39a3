package federation

import (
	"crypto/ed25519"
	"math"
	"reflect"
	"strings"
	"testing"

	"galley"
)

func TestAgentTellsNoMoreThanAgreed(t *testing.T) {
	a, o := permitted()
	a.Leaves.Rows, a.Clip = RowCount{Rounded, 100, 5000}, 2
	o.Agreement = a.Digest()
	agent := Agent{Agreement: a, Key: keyOf("a")}
	update := Finding{galley.DigestBytes([]byte("update")), 2}
	told := map[string]float64{"loss": 0.5, "accuracy": 0.9, "first-line": 1, "nan": math.NaN()}
	after, h, err := agent.Answer(o, update, 1234, told, began)
	if err != nil {
		t.Fatal(err)
	}
	want := Header{
		Protocol: Protocol, Federation: "headlines", Round: 4, Attempt: 1, Partner: "a", Agreement: a.Digest(),
		Base: o.Base, Update: update.Digest, Rows: 1200, Metrics: map[string]float64{"loss": 0.5},
	}
	if !reflect.DeepEqual(h.Header, want) || !h.Verify(keyOf("a").Public().(ed25519.PublicKey)) {
		t.Errorf("%+v, want %+v", h.Header, want)
	}
	if len(agent.Ledger.Answers) != 0 || len(after.Ledger.Answers) != 1 {
		t.Error("the ledger")
	}
	// Killed after it stored its answer, it finds the same again.
	again, err := after.Consider(o, began)
	if err != nil || again == nil || !reflect.DeepEqual(*again, h) {
		t.Errorf("%+v, %v", again, err)
	}
	// What was trained twice is answered once.
	if same, h2, err := after.Answer(o, Finding{galley.DigestBytes(nil), 1}, 7, nil, began); err != nil || !reflect.DeepEqual(h2, h) || len(same.Ledger.Answers) != 1 {
		t.Errorf("a second update of the attempt is signed: %v", err)
	}
}

func TestAgentRefuses(t *testing.T) {
	a, o := permitted()
	a.Clip = 2
	o.Agreement = a.Digest()
	agent := Agent{Agreement: a, Key: keyOf("a")}
	for _, tt := range []struct {
		name   string
		update Finding
		rows   int64
		late   bool
		want   string
	}{
		{"too long", Finding{"sha256:x", 2.1}, 10, false, "agreement.clip: the update has a norm of 2.1, and 2 is the longest that may leave"},
		{"no norm", Finding{"sha256:x", math.NaN()}, 10, false, "agreement.clip"},
		{"no rows", Finding{"sha256:x", 1}, 0, false, "rows: there are no rows to train on"},
		{"ended while it trained", Finding{"sha256:x", 1}, 10, true, "agreement.expires: has ended"},
	} {
		now := began
		if tt.late {
			now = a.Expires
		}
		after, h, err := agent.Answer(o, tt.update, tt.rows, nil, now)
		if err == nil || !strings.Contains(err.Error(), tt.want) || h.Signature != nil || len(after.Ledger.Answers) != 0 {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	a.Rounds = 1
	o.Agreement = a.Digest()
	agent = Agent{Agreement: a, Key: keyOf("a")}
	agent, _, err := agent.Answer(o, Finding{"sha256:x", 1}, 10, nil, began)
	if err != nil {
		t.Fatal(err)
	}
	o.Attempt++
	if answer, err := agent.Consider(o, began); answer != nil || err != nil {
		t.Errorf("another attempt of the one round: %v", err)
	}
	o.Round++
	if _, err := agent.Consider(o, began); galley.CodeOf(err) != galley.PermissionDenied {
		t.Errorf("a second round: %v", err)
	}
}

package partner

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"galley"
)

// What goes wrong with connections is said in words of the partner's side.
func TestRefusedConnections(t *testing.T) {
	c := newCoordinator(t, nil)
	a := newSide(t, c, "harbour")
	join := func(change func(*Joining)) error {
		j := Joining{Agreement: agreementText("harbour"), Coordinator: c.address, Server: c.crt}
		change(&j)
		_, err := Join(t.Context(), a.dir, j, "test", time.Now)
		return err
	}
	if err := join(func(*Joining) {}); err != nil {
		t.Error(err)
	}
	if err := join(func(j *Joining) { j.CA = true }); err != nil { // it is its own CA
		t.Error(err)
	}
	_, other := serverCertificate(t)
	for _, ca := range []bool{false, true} {
		if err := join(func(j *Joining) { j.Server, j.CA = other, ca }); galley.CodeOf(err) != galley.Unauthenticated || !strings.Contains(err.Error(), "is not the coordinator that was joined") {
			t.Error(err)
		}
	}
	for name, change := range map[string]func(*Joining){
		"no certificate":        func(j *Joining) { j.Server = []byte("x") },
		"two certificates":      func(j *Joining) { j.Server = append(append([]byte{}, c.crt...), other...) },
		"no address":            func(j *Joining) { j.Coordinator = "https://there" },
		"another's agreement":   func(j *Joining) { j.Agreement = agreementText("valley") },
		"a damaged agreement":   func(j *Joining) { j.Agreement = agreementText("harbour", "rounds: 50\n", "") },
		"nobody":                func(j *Joining) { j.Coordinator = "127.0.0.1:1" },
		"an expired agreement":  func(j *Joining) { j.Agreement = agreementText("harbour", "2030-06-30", "2020-06-30") },
		"a host without a port": func(j *Joining) { j.Coordinator = "127.0.0.1" },
	} {
		if err := join(change); err == nil || !strings.Contains(err.Error(), " — ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if m, err := (&home{dir: a.dir}).membership(); err != nil || m.Pinned {
		t.Errorf("what failed has changed the membership: %+v, %v", m, err)
	}
	c.mu.Lock()
	clear(c.enrolled) // revoked
	c.mu.Unlock()
	err := join(func(*Joining) {})
	if e := galley.AsError(err); e == nil || !strings.Contains(e.Remedy, a.identity.Fingerprint().Short()) || !strings.Contains(e.Message, "certificate") {
		t.Error(err)
	}
}

// An agent that is refused tries on, and is there when it is enrolled.
func TestEnrolledLater(t *testing.T) {
	c := newCoordinator(t, nil)
	a := newSide(t, c, "harbour")
	c.mu.Lock()
	clear(c.enrolled)
	c.mu.Unlock()
	a.serve(nil)
	a.log.has(t, "not connected to the coordinator")
	if s, err := ReadStatus(a.dir); err != nil || !s.Serving || s.Doing == nil || s.Doing.State != "connecting" {
		t.Errorf("%+v, %v", s, err)
	}
	c.enrol(a.identity)
	c.waitFor("attending", func() bool { return len(c.attending) == 1 })
	if n := strings.Count(a.log.String(), "not connected"); n > 3 {
		t.Errorf("the same was said %d times", n)
	}
}

// The next key is used as soon as the coordinator knows it, by an agent that
// serves all the time.
func TestRotation(t *testing.T) {
	c := newCoordinator(t, nil)
	a := newSide(t, c, "harbour")
	stop := a.serve(nil)
	c.waitFor("attending", func() bool { return len(c.attending) == 1 })
	next, _, err := Rotate(a.dir, 30, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c.crash() // the coordinator knows the old one alone
	c.waitFor("attending", func() bool { return len(c.attending) == 1 && c.calls["attend"] > 1 })
	if i, err := loadIdentity(a.dir); err != nil || i.Fingerprint() != a.identity.Fingerprint() {
		t.Errorf("promoted too early: %v", err)
	}
	c.enrol(next)
	c.crash()
	a.log.has(t, "the coordinator has accepted the new certificate")
	c.waitFor("joining again", func() bool { return c.joined == 2 && len(c.attending) == 1 })
	if i, err := loadIdentity(a.dir); err != nil || i.Fingerprint() != next.Fingerprint() {
		t.Errorf("not promoted: %v", err)
	}
	c.offer("harbour", c.honest("harbour", 1, 1))
	c.waitFor("an update", func() bool { return len(c.headers) == 1 })
	if !c.headers[0].Verify(c.keys["harbour"]) {
		t.Error("signed with the key before")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestOneAgentPerHome(t *testing.T) {
	c := newCoordinator(t, nil)
	a := newSide(t, c, "harbour")
	a.serve(nil)
	c.waitFor("attending", func() bool { return len(c.attending) == 1 })
	if err := Serve(t.Context(), a.options()); galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), "another agent works in this folder") {
		t.Error(err)
	}
	if err := a.join(); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Error(err)
	}
}

// A home that is not whole is refused, with what to do.
func TestDamagedHome(t *testing.T) {
	c := newCoordinator(t, nil)
	serve := func(a *side) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return Serve(ctx, a.options())
	}
	for name, damage := range map[string]func(a *side){
		"no home":             func(a *side) { a.dir = filepath.Join(a.dir, "absent") },
		"not joined":          func(a *side) { _ = os.Remove(filepath.Join(a.dir, membershipFile)) },
		"amended agreement":   func(a *side) { write(t, a.dir, agreementFile, agreementText("harbour", "rounds: 50", "rounds: 51")) },
		"no agreement":        func(a *side) { _ = os.Remove(filepath.Join(a.dir, agreementFile)) },
		"no server":           func(a *side) { write(t, a.dir, serverFile, nil) },
		"membership is none":  func(a *side) { write(t, a.dir, membershipFile, []byte("{}x")) },
		"damaged ledger":      func(a *side) { write(t, a.dir, ledgerFile, []byte(`{"answers":[`)) },
		"key that others see": func(a *side) { _ = os.Chmod(filepath.Join(a.dir, identityFile), 0o644) },
		"no rows":             func(a *side) { a.rows = filepath.Join(a.dir, "absent.csv") },
		"rows without labels": func(a *side) { write(t, filepath.Dir(a.rows), "rows.csv", []byte("text\nx\n")) },
		"empty rows":          func(a *side) { write(t, filepath.Dir(a.rows), "rows.csv", []byte("text,label\n")) },
	} {
		a := newSide(t, c, "harbour")
		damage(a)
		if err := serve(a); err == nil || galley.AsError(err).Remedy == "" && galley.CodeOf(err) != galley.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The rows of one label alone are rows.
	a := newSide(t, c, "harbour")
	write(t, filepath.Dir(a.rows), "rows.csv", []byte("text,label\na goal,sport\na match,sport\n"))
	a.serve(nil)
	c.offer("harbour", c.honest("harbour", 1, 1))
	c.waitFor("an update", func() bool { return len(c.headers) == 1 })
}

func TestStatus(t *testing.T) {
	if _, err := ReadStatus(t.TempDir()); galley.CodeOf(err) != galley.NotFound || !strings.Contains(err.Error(), "keygen") {
		t.Error(err)
	}
	c := newCoordinator(t, nil)
	a := newSide(t, c, "harbour")
	stop := a.serve(nil)
	c.offer("harbour", c.honest("harbour", 1, 1))
	a.log.has(t, "does not count the update") // no round is open
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// A kill cut a line off.
	f, err := os.OpenFile(filepath.Join(a.dir, sentFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString(`{"at":"2026`)
	f.Close()
	if err := (&home{dir: a.dir}).note(Sent{What: SentDecline, Federation: "headlines", Why: "test"}); err != nil {
		t.Fatal(err)
	}
	s, err := ReadStatus(a.dir)
	if err != nil || s.Serving || s.Answered != 1 || s.Rounds != 50 || s.Partner != "harbour" || len(s.Sent) != 4 || s.Sent[2].Answer != "stale" || s.Sent[3].Why != "test" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestExampleAgreement(t *testing.T) {
	_, a, err := ReadAgreement("../../examples/federation/agreement.yaml")
	if err != nil || a.Partner != "valley-post" || !a.Leaves.Weights {
		t.Errorf("%+v, %v", a, err)
	}
}

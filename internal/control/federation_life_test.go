package control

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"galley"
	"galley/federation"
	"galley/internal/blob"
	"galley/internal/ort/orttest"
	"galley/trainer"
)

// openRound waits until a numbered round of a job is open.
func (w *world) openRound(t *testing.T, job string, number int) (r federation.Round) {
	t.Helper()
	eventually(t, func() bool {
		f, err := w.Federation(t.Context(), job)
		if err != nil || f.Round == nil || f.Round.Number != number {
			return false
		}
		r = *f.Round
		return true
	})
	return r
}

// A partner that joins while rounds go on is asked from the next one on; one
// whose access is revoked is taken out of the open round, and asked again when
// it has it back.
func TestPartnersComeAndGo(t *testing.T) {
	w := newFederationWorld(t)
	a, b, c := newAgent(t, w.Control, "courier", 100), newAgent(t, w.Control, "gazette", 300), newAgent(t, w.Control, "herald", 100)
	stop := start(t, a, b)
	idle, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = w.Attend(idle, "herald", "topics", func(federation.Offer) error { return nil }, nil) }()
	eventually(t, func() bool { return len(w.presence.at("topics")) == 3 })
	job := w.submit(t, []byte(strings.NewReplacer("deadline: 20s", "deadline: 60s", "rounds: 3", "rounds: 10").Replace(federationFile))).ID
	r := w.openRound(t, job, 1)
	if len(r.Cohort) != 3 {
		t.Fatalf("%+v", r.Cohort)
	}
	eventually(t, func() bool { return len(a.verdicts()) == 1 && len(b.verdicts()) == 1 })
	late := newAgent(t, w.Control, "tribune", 100)
	if f, err := w.Federation(t.Context(), job); err != nil || len(f.Members) != 4 || f.Round == nil || len(f.Round.Cohort) != 3 {
		t.Errorf("%+v %v", f, err)
	}
	stop()
	cancel()
	eventually(t, func() bool { return len(w.presence.at("topics")) == 0 })
	if _, err := w.RevokePartner(t.Context(), "ann", "herald", "left"); err != nil {
		t.Fatal(err)
	}
	// The round went on without it.
	eventually(t, func() bool { f, err := w.Federation(t.Context(), job); return err == nil && f.Closed == 1 })
	first, _, err := w.Round(t.Context(), job, 1, 1)
	if e, _ := first.Entry("herald"); err != nil || first.Phase != federation.Closed || e.Standing != federation.Withdrawn || e.Why != "left" {
		t.Errorf("%+v %v", e, err)
	}
	if _, err := w.ReinstatePartner(t.Context(), "ann", "herald"); err != nil {
		t.Fatal(err)
	}
	start(t, a, b, c, late)
	j := w.wait(t, job)
	if j.Phase != trainer.Succeeded {
		t.Fatalf("%+v", j.Error)
	}
	if r, _, err = w.Round(t.Context(), job, 10, 0); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"herald", "tribune"} {
		if e, ok := r.Entry(name); !ok || e.Standing != federation.Accepted {
			t.Errorf("%s has no part in the last round: %+v", name, r.Cohort)
		}
	}
	near(t, w.graphWeights(t, "joint@1"), checkRounds(t, w.Control, job, w.graphWeights(t, "topic@1")))
}

// Only those who are named take part; a new key counts from the next round on.
func TestNamedPartnersAndNewKeys(t *testing.T) {
	w := newFederationWorld(t)
	a, b := newAgent(t, w.Control, "courier", 100), newAgent(t, w.Control, "gazette", 300)
	newAgent(t, w.Control, "herald", 100)
	job, offers := offered(t, w, federationFile+"partners: [courier, gazette]\n", a, b)
	if f, err := w.Federation(t.Context(), job); err != nil || len(f.Members) != 2 || len(f.Connected) != 2 {
		t.Errorf("%+v %v", f.Members, err)
	}
	o := offers["courier"]
	if _, _, err := w.FederationWeights(t.Context(), "herald", "topics", job, o.Base); galley.CodeOf(err) != galley.PermissionDenied {
		t.Error(err)
	}
	if _, _, err := w.FederationWeights(t.Context(), "courier", "topics", job, w.modelDigest(t, "topic@1")); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Error(err)
	}
	if _, err := w.FederationModel(t.Context(), "courier", "topics", "other"); galley.CodeOf(err) != galley.NotFound {
		t.Error(err)
	}
	files, err := w.FederationModel(t.Context(), "courier", "topics", job)
	if err != nil || len(files) != 3 {
		t.Fatalf("%+v %v", files, err)
	}
	for _, f := range files {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if d, n, err := galley.DigestReader(r); err != nil || d != f.Digest || n != f.Size {
			t.Errorf("%s: %s %d %v", f.Name, d, n, err)
		}
		_ = r.Close()
	}
	renewed := ed25519.NewKeyFromSeed(make([]byte, 32))
	if _, err := w.EnrolPartner(t.Context(), "ann", "courier", certificate(t, "courier", renewed, nil), true); err != nil {
		t.Fatal(err)
	}
	a.mustAnswer(t, o, "") // the open round has the former key
	b.mustAnswer(t, offers["gazette"], "")
	r := w.openRound(t, job, 2)
	o.Round, o.Base = 2, r.Base
	a.mustAnswer(t, o, federation.BadSignature)
	a.Key, a.Ledger = renewed, federation.Ledger{} // what was signed with the former key is signed anew
	a.mustAnswer(t, o, "")
	if err := w.DeclineRound(t.Context(), "gazette", "topics", job, 2, 1, " our rows \xff are\x1b[2J being moved "); err != nil {
		t.Error(err)
	}
	eventually(t, func() bool { _, _, err := w.Round(t.Context(), job, 2, 1); return err == nil })
	r, _, err = w.Round(t.Context(), job, 2, 1)
	if e, _ := r.Entry("gazette"); err != nil || r.Phase != federation.Failed || e.Standing != federation.Declined || e.Why != "our rows ? are [2J being moved" {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := w.Cancel(t.Context(), "ann", job); err != nil {
		t.Fatal(err)
	}
	if j := w.wait(t, job); j.Phase != trainer.Cancelled {
		t.Errorf("%+v", j)
	}
	eventually(t, func() bool { _, err := os.Stat(w.workDir(job)); return os.IsNotExist(err) })
	f, err := w.Federation(t.Context(), job)
	if err != nil || f.State != federation.Ended || f.Round != nil {
		t.Errorf("%+v %v", f, err)
	}
	if _, err := w.Resume(t.Context(), "ann", job); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Error(err)
	}
	// Another one of the name may run now.
	w.submit(t, []byte(federationFile))
}

// A job whose round fails too often has it tried again when it is resumed. While
// one runs there is no other of its federation.
func TestFailedFederationIsResumed(t *testing.T) {
	w := newFederationWorld(t)
	a, b := newAgent(t, w.Control, "courier", 100), newAgent(t, w.Control, "gazette", 300)
	file := strings.ReplaceAll(federationFile, "pause: 0s", "pause: 0s\nattempts: 1")
	job, offers := offered(t, w, file, a, b)
	if _, err := w.Submit(t.Context(), "ann", []byte(federationFile), nil, ""); galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), job) {
		t.Error(err)
	}
	a.mustAnswer(t, offers["courier"], "")
	if err := w.DeclineRound(t.Context(), "gazette", "topics", job, 1, 1, "not today"); err != nil {
		t.Fatal(err)
	}
	j := w.wait(t, job)
	if j.Phase != trainer.Failed || !strings.Contains(j.Error.Error(), "round 1 failed 1 times") {
		t.Fatalf("%+v %v", j, j.Error)
	}
	o := offers["gazette"]
	eventually(t, func() bool {
		_, _, err := w.FederationWeights(t.Context(), "courier", "topics", job, o.Base)
		return galley.CodeOf(err) == galley.NotFound
	})
	other := w.submit(t, []byte(federationFile))
	if _, err := w.Resume(t.Context(), "ann", job); galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), other.ID) {
		t.Error(err)
	}
	if j, err := w.Job(t.Context(), job); err != nil || j.Phase != trainer.Failed {
		t.Errorf("%+v %v", j, err)
	}
	if _, err := w.Cancel(t.Context(), "ann", other.ID); err != nil {
		t.Fatal(err)
	}
	w.wait(t, other.ID)
	// Meanwhile a partner came, and one lost its access.
	newAgent(t, w.Control, "herald", 100)
	if _, err := w.RevokePartner(t.Context(), "ann", "gazette", "left"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Resume(t.Context(), "ann", job); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		f, err := w.Federation(t.Context(), job)
		return err == nil && len(f.Members) == 3 && f.Members[1].Revoked == "left"
	})
	if _, err := w.ReinstatePartner(t.Context(), "ann", "gazette"); err != nil {
		t.Fatal(err)
	}
	start(t, b) // a attends still
	o2 := w.openRound(t, job, 1)
	if o2.Attempt != 2 {
		t.Errorf("%+v", o2)
	}
	o = offers["courier"]
	o.Attempt = 2
	start(t, a)
	if j = w.wait(t, job); j.Phase != trainer.Succeeded {
		t.Fatalf("%+v", j.Error)
	}
	near(t, w.graphWeights(t, "joint@1"), checkRounds(t, w.Control, job, w.graphWeights(t, "topic@1")))
}

// What this side fails in, while it aggregates or publishes, fails the job, which
// goes on from there when it is resumed: no partner is asked again.
func TestFailuresOfTheCoordinatorAreMended(t *testing.T) {
	w := newFederationWorld(t)
	a, b := newAgent(t, w.Control, "courier", 100), newAgent(t, w.Control, "gazette", 300)
	file := strings.ReplaceAll(federationFile, "rounds: 3", "rounds: 1") + fmt.Sprintf("recipe: {seed: %d}\n", unsettled)
	job, offers := offered(t, w, file, a, b)
	base := w.blobs.Path(offers["courier"].Base)
	a.mustAnswer(t, offers["courier"], "")
	h, data, err := b.train(t.Context(), offers["gazette"])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(base, base+"-away"); err != nil {
		t.Fatal(err)
	}
	if v, err := w.SubmitUpdate(t.Context(), "gazette", h, strings.NewReader(string(data))); err != nil || !v.OK() {
		t.Fatalf("%+v %v", v, err)
	}
	if j := w.wait(t, job); j.Phase != trainer.Failed || !strings.Contains(j.Error.Error(), "its updates cannot be aggregated") {
		t.Fatalf("%+v %v", j, j.Error)
	}
	if err := os.Rename(base+"-away", base); err != nil {
		t.Fatal(err)
	}
	w.sweep(t.Context()) // what has come stays
	if _, err := w.Resume(t.Context(), "ann", job); err != nil {
		t.Fatal(err)
	}
	if j := w.wait(t, job); j.Phase != trainer.Failed || !strings.Contains(j.Error.Error(), "valid: cannot be read") {
		t.Fatalf("%+v %v", j, j.Error)
	}
	if f, err := w.Federation(t.Context(), job); err != nil || f.State != federation.Succeeded || f.Closed != 1 {
		t.Errorf("%+v %v", f, err)
	}
	if err := os.WriteFile(filepath.Join(w.workDir(job), "mended"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Resume(t.Context(), "ann", job); err != nil {
		t.Fatal(err)
	}
	if j := w.wait(t, job); j.Phase != trainer.Succeeded {
		t.Fatalf("%+v", j.Error)
	}
	near(t, w.graphWeights(t, "joint@1"), checkRounds(t, w.Control, job, w.graphWeights(t, "topic@1")))
}

// An accepted update that is damaged on the disk costs its partner the round,
// and nobody else.
func TestUpdateDamagedOnDisk(t *testing.T) {
	w := newFederationWorld(t)
	a, b, c := newAgent(t, w.Control, "courier", 100), newAgent(t, w.Control, "gazette", 300), newAgent(t, w.Control, "herald", 100)
	job, offers := offered(t, w, strings.ReplaceAll(federationFile, "rounds: 3", "rounds: 1"), a, b, c)
	h, data, err := a.train(t.Context(), offers["courier"])
	if err != nil {
		t.Fatal(err)
	}
	a.mustAnswer(t, offers["courier"], "")
	path := w.blobs.Path(h.Update)
	data[len(data)/2] ^= 1
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o400); err != nil {
		t.Fatal(err)
	}
	b.mustAnswer(t, offers["gazette"], "")
	c.mustAnswer(t, offers["herald"], "")
	if j := w.wait(t, job); j.Phase != trainer.Succeeded {
		t.Fatalf("%+v", j.Error)
	}
	r, _, err := w.Round(t.Context(), job, 1, 1)
	if e, _ := r.Entry("courier"); err != nil || e.Standing != federation.Spoilt || r.Aggregations != 2 || len(r.Parts()) != 2 {
		t.Errorf("%+v %v", e, err)
	}
	near(t, w.graphWeights(t, "joint@1"), checkRounds(t, w.Control, job, w.graphWeights(t, "topic@1")))
}

// A server that goes away in any state of a run goes on from there: nothing is
// asked twice, counted twice or published twice, also with a sweep in between.
func TestFederationAcrossRestarts(t *testing.T) {
	home, opener := t.TempDir(), orttest.Opener(t)
	reopen := func(patience time.Duration) *world {
		t.Helper()
		w, err := openWith(home, opener, 1, blob.Options{}, func(o *Options) { o.Gather, o.Patience = 50*time.Millisecond, patience })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.stop)
		return w
	}
	w := reopen(time.Second)
	w.forFederations(t)
	a, b := newAgent(t, w.Control, "courier", 100), newAgent(t, w.Control, "gazette", 300)
	job, offers := offered(t, w, strings.ReplaceAll(federationFile, "rounds: 3", "rounds: 2"), a, b)
	a.mustAnswer(t, offers["courier"], "")
	again := func(patience time.Duration) {
		t.Helper()
		w.stop()
		w = reopen(patience)
		a.c, b.c = w.Control, w.Control
		w.sweep(t.Context())
	}
	again(time.Hour) // what fails stays undone
	if v := a.mustAnswer(t, offers["courier"], ""); !v.Resent {
		t.Errorf("%+v", v)
	}
	// Both answers are there, and nothing has been aggregated: base is away.
	base := w.blobs.Path(offers["gazette"].Base)
	h, data, err := b.train(t.Context(), offers["gazette"])
	if err != nil {
		t.Fatal(err)
	}
	r, _ := w.federations.named("topics")
	f, err := w.stored(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.layoutOf(f, r); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(base, base+"-away"); err != nil {
		t.Fatal(err)
	}
	if v, err := w.SubmitUpdate(t.Context(), "gazette", h, strings.NewReader(string(data))); err != nil || !v.OK() {
		t.Fatalf("%+v %v", v, err)
	}
	w.stop()
	if err := os.Rename(base+"-away", base); err != nil {
		t.Fatal(err)
	}
	again(time.Second)
	stop := start(t, a, b)
	if j := w.wait(t, job); j.Phase != trainer.Succeeded || j.Versions[0] != "joint@1" {
		t.Fatalf("%+v %v", j, j.Error)
	}
	stop()
	// As if the server had gone away before it said that the version is there.
	again(time.Second)
	if j := w.wait(t, job); j.Phase != trainer.Succeeded {
		t.Errorf("%+v", j)
	}
	m, err := w.store.Model(t.Context(), "joint")
	if err != nil || len(m.Versions) != 1 {
		t.Errorf("%+v %v", m, err)
	}
	near(t, w.graphWeights(t, "joint@1"), checkRounds(t, w.Control, job, w.graphWeights(t, "topic@1")))
}

func TestFederationsThatCannotBegin(t *testing.T) {
	w := newFederationWorld(t)
	w.add(t, "weather", map[string]string{"train": "text,label\nsun today,sun\nrain today,rain\n"})
	if j := w.wait(t, w.submit(t, jobFile("masked", "text-mlm", "recipe: {epochs: 1}\n")).ID); j.Phase != trainer.Succeeded {
		t.Fatal(j.Error)
	}
	upload, err := w.uploadBundle(t, "uploaded")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		from, to string
		says     string
	}{
		"another task":    {"topic@1", "masked@1", "is no text classifier"},
		"an upload":       {"topic@1", string(upload), "is an upload"},
		"no version":      {"topic@1", "nothing@1", "no such model"},
		"other labels":    {"dataset: news", "dataset: weather", `has the label "rain", which topic@1 has not`},
		"unknown partner": {"purpose:", "partners: [courier, nobody]\npurpose:", "courier is not enrolled"},
	} {
		_, err := w.Submit(t.Context(), "ann", []byte(strings.Replace(federationFile, c.from, c.to, 1)), nil, "")
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if jobs := w.federations.all(); len(jobs) > 0 {
		t.Errorf("%+v", jobs)
	}
	// The same key is the same job; one that waits says for what.
	j, err := w.Submit(t.Context(), "ann", []byte(federationFile), nil, "key")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := w.Submit(t.Context(), "ann", []byte(federationFile), nil, "key"); err != nil || again.ID != j.ID {
		t.Errorf("%+v %v", again, err)
	}
	eventually(t, func() bool {
		f, err := w.Federation(t.Context(), j.ID)
		return err == nil && strings.Contains(f.Waiting, "round 1 needs 2 partners and has 0")
	})
	e, err := w.Explain(t.Context(), j.ID)
	if err != nil || !strings.Contains(strings.Join(e.Reasons, "\n"), "round 1 needs 2 partners and has 0") {
		t.Errorf("%+v %v", e.Reasons, err)
	}
}

// A pipeline trains a model, has partners go on with it, and promotes what they
// made. Run again, partners are asked again: what they train on may be another.
func TestFederationInPipeline(t *testing.T) {
	w := newFederationWorld(t)
	start(t, newAgent(t, w.Control, "courier", 100), newAgent(t, w.Control, "gazette", 300))
	file := []byte(`apiVersion: galley/v1
kind: Pipeline
name: story
steps:
  - id: tune
    spec: {kind: Train, name: topic, task: text-classification, data: {dataset: news}, recipe: {epochs: 1, seed: 9}, resources: {cpus: 1}}
  - id: joint
    spec: {kind: Federate, name: joint, from: "${tune.version}", federation: topics, purpose: topics of headlines, data: {dataset: news}, rounds: 2, pause: 0s}
  - id: release
    spec: {kind: Promote, version: "${joint.version}"}
`)
	j := w.wait(t, w.submit(t, file).ID)
	if s := w.state(t, j, "joint"); j.Phase != trainer.Succeeded || s.Version != "joint@1" || s.Reused {
		t.Fatalf("%+v %v", j.Steps, j.Error)
	}
	child, err := w.Job(t.Context(), w.state(t, j, "joint").Job)
	if err != nil || child.Within != j.ID || child.ParentRef != "topic@2" {
		t.Errorf("%+v %v", child, err)
	}
	again := w.wait(t, w.submit(t, file).ID)
	if s := w.state(t, again, "joint"); again.Phase != trainer.Succeeded || s.Reused || s.Job == child.ID {
		t.Errorf("%+v %v", again.Steps, again.Error)
	}
	if s := w.state(t, again, "tune"); !s.Reused {
		t.Errorf("%+v", s)
	}
	// A pipeline that is cancelled cancels its rounds.
	file = []byte(strings.ReplaceAll(string(file), "rounds: 2", "rounds: 2, min_cohort: 3"))
	waits := w.submit(t, file)
	eventually(t, func() bool {
		j, err := w.Job(t.Context(), waits.ID)
		return err == nil && len(j.Steps) == 3 && j.Steps[1].Job != ""
	})
	if _, err := w.Cancel(t.Context(), "ann", waits.ID); err != nil {
		t.Fatal(err)
	}
	if waits = w.wait(t, waits.ID); waits.Phase != trainer.Cancelled {
		t.Errorf("%+v", waits)
	}
}

// Partners that are revoked and reinstated, join anew, and come and go while
// rounds are made, never spoil one: each is made of what its record says.
func TestFederationAmidChanges(t *testing.T) {
	w := newFederationWorld(t)
	var agents []*agent
	for i := range 8 {
		agents = append(agents, newAgent(t, w.Control, fmt.Sprintf("partner-%d", i), int64(100+i)))
	}
	file := strings.NewReplacer("rounds: 3", "rounds: 15\nenough: 3\nattempts: 1000", "deadline: 20s", "deadline: 1s").Replace(federationFile)
	start(t, agents[:3]...) // these stay
	job := w.submit(t, []byte(file)).ID
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i, a := range agents[3:] {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				stay, leave := context.WithTimeout(ctx, time.Duration(10+7*i)*time.Millisecond)
				_ = a.serve(stay)
				leave()
				var err error
				switch (n + i) % 3 {
				case 0:
					if _, err = w.RevokePartner(t.Context(), "ann", a.name, "for a while"); err == nil {
						_, err = w.ReinstatePartner(t.Context(), "ann", a.name)
					}
				case 1:
					_, _, err = w.JoinFederation(t.Context(), a.name, agreementFile(a.name, ""))
				}
				if err != nil {
					t.Errorf("%s: %v", a.name, err)
				}
			}
		})
	}
	j := w.wait(t, job)
	cancel()
	all.Wait()
	if j.Phase != trainer.Succeeded {
		t.Fatalf("%+v", j.Error)
	}
	near(t, w.graphWeights(t, "joint@1"), checkRounds(t, w.Control, job, w.graphWeights(t, "topic@1")))
	w.checkMade(t, "joint", job, 15)
}

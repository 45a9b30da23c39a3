package storetest

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"galley"
	"galley/federation"
	"galley/internal/store"
	"galley/trainer"
)

func partnerNamed(name string) store.Partner {
	return store.Partner{Name: name, Certificate: []byte("certificate of " + name), Fingerprint: Digest("certificate", name), Enrolled: noon}
}

func membershipOf(partner, federationName string, rounds int) store.Membership {
	a := federation.Agreement{
		Federation: federationName, Partner: partner, Purpose: "topics", Models: []string{"news"}, Rounds: rounds, MinCohort: 2,
		Expires: noon.AddDate(1, 0, 0), Leaves: federation.Leaves{Weights: true, Rows: federation.RowCount{Report: federation.Exact, Most: 100}},
	}
	return store.Membership{Partner: partner, Federation: federationName, Agreement: a, Digest: a.Digest()}
}

func testPartners(t *testing.T, s Store) {
	ctx := t.Context()
	one := must[store.Partner](t)(s.EnrolPartner(ctx, partnerNamed("gazette"), false, by("partner.enrol")))
	wantEqual(t, "enrolled", one, partnerNamed("gazette"))
	must[store.Partner](t)(s.EnrolPartner(ctx, partnerNamed("courier"), false, by("partner.enrol")))
	must[store.Partner](t)(s.EnrolPartner(ctx, partnerNamed("gazette"), false, by("partner.enrol"))) // as it is

	other := partnerNamed("gazette")
	other.Fingerprint, other.Certificate, other.Enrolled = Digest("renewed"), []byte("renewed"), noon.Add(time.Hour)
	_, err := s.EnrolPartner(ctx, other, false, by("partner.enrol"))
	wantCode(t, err, galley.AlreadyExists)
	taken := partnerNamed("herald")
	taken.Fingerprint = Digest("certificate", "courier")
	_, err = s.EnrolPartner(ctx, taken, true, by("partner.enrol"))
	wantCode(t, err, galley.AlreadyExists)

	must[store.Partner](t)(s.SetRevoked(ctx, "gazette", "left", by("partner.revoke")))
	must[store.Partner](t)(s.SetRevoked(ctx, "gazette", "left again", by("partner.revoke")))
	renewed := must[store.Partner](t)(s.EnrolPartner(ctx, other, true, by("partner.enrol")))
	if renewed.Revoked != "left" || !renewed.Enrolled.Equal(noon) || renewed.Fingerprint != other.Fingerprint {
		t.Errorf("%+v", renewed)
	}
	m := membershipOf("gazette", "topics", 3)
	wantCode(t, s.JoinFederation(ctx, m, []byte("file"), by("federation.join")), galley.PermissionDenied)
	if p := must[store.Partner](t)(s.SetRevoked(ctx, "gazette", "", by("partner.reinstate"))); p.Revoked != "" {
		t.Errorf("%+v", p)
	}
	_, err = s.SetRevoked(ctx, "nobody", "", by("partner.reinstate"))
	wantCode(t, err, galley.NotFound)

	for range 2 { // the second time changes nothing
		if err := s.JoinFederation(ctx, m, []byte("file"), by("federation.join")); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, s.JoinFederation(ctx, membershipOf("nobody", "topics", 3), nil, by("federation.join")), galley.NotFound)
	later := membershipOf("gazette", "topics", 4)
	if err := s.JoinFederation(ctx, later, []byte("later"), by("federation.join")); err != nil {
		t.Fatal(err)
	}
	if err := s.JoinFederation(ctx, membershipOf("courier", "topics", 5), []byte("courier's"), by("federation.join")); err != nil {
		t.Fatal(err)
	}
	all := must[[]store.Membership](t)(s.Memberships(ctx, "", "topics"))
	wantEqual(t, "memberships", all, []store.Membership{membershipOf("courier", "topics", 5), later})
	wantEqual(t, "of a partner", must[[]store.Membership](t)(s.Memberships(ctx, "gazette", "")), []store.Membership{later})
	a := must[store.Agreement](t)(s.Agreement(ctx, m.Digest)) // the former one stays
	wantEqual(t, "agreement", a, store.Agreement{Digest: m.Digest, Partner: "gazette", Federation: "topics", File: []byte("file"), Joined: noon})
	_, err = s.Agreement(ctx, Digest("none"))
	wantCode(t, err, galley.NotFound)
	if p := must[[]store.Partner](t)(s.Partners(ctx)); len(p) != 2 || p[0].Name != "courier" || p[1].Fingerprint != other.Fingerprint {
		t.Errorf("%+v", p)
	}

	// What a partner has a home keep is bounded.
	for i := 2; err == nil || i < store.MaxAgreements+10; i++ {
		m := membershipOf("gazette", "topics", 3+i)
		if err = s.JoinFederation(ctx, m, []byte{}, by("federation.join")); err != nil {
			break
		}
	}
	wantCode(t, err, galley.ResourceExhausted)
	for i := 1; i < store.MaxMemberships; i++ {
		if err := s.JoinFederation(ctx, membershipOf("courier", fmt.Sprint("f", i), 1), []byte{}, by("federation.join")); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, s.JoinFederation(ctx, membershipOf("courier", "one-more", 1), []byte{}, by("federation.join")), galley.ResourceExhausted)
}

func federationOf(run, name string) federation.Federation {
	return federation.Federation{
		Terms: federation.Terms{Federation: name, Run: run}, State: federation.Running, Base: Digest("base", run), Updated: noon,
	}
}

func runningJob(id string) trainer.Job {
	j := Job(id)
	j.Phase = trainer.Running
	return j
}

func testFederations(t *testing.T, s Store) {
	ctx := t.Context()
	j, f, err := s.CreateFederation(ctx, runningJob("run-1"), federationOf("run-1", "topics"), by("job.submit"))
	if err != nil || j.Generation != 1 || f.Generation != 1 {
		t.Fatalf("%+v, %+v, %v", j, f, err)
	}
	_, _, err = s.CreateFederation(ctx, runningJob("run-2"), federationOf("run-2", "topics"), by("job.submit"))
	wantCode(t, err, galley.FailedPrecondition)
	_, err = s.Job(ctx, "run-2") // neither is there
	wantCode(t, err, galley.NotFound)
	_, _, err = s.CreateFederation(ctx, runningJob("run-1"), federationOf("run-1", "topics"), by("job.submit"))
	wantCode(t, err, galley.AlreadyExists)
	if _, _, err := s.CreateFederation(ctx, runningJob("run-3"), federationOf("run-3", "others"), by("job.submit")); err != nil {
		t.Error(err)
	}

	// An open round needs its base and the updates that count.
	update, withdrawn := Digest("update"), Digest("withdrawn")
	header := func(update galley.Digest) *federation.SignedHeader {
		return &federation.SignedHeader{Header: federation.Header{Update: update}}
	}
	r := federation.Round{Number: 1, Attempt: 1, Base: f.Base, Phase: federation.Collecting, Opened: noon, Cohort: []federation.Entry{
		{Partner: "a", Standing: federation.Accepted, Header: header(update)},
		{Partner: "b", Standing: federation.Withdrawn, Header: header(withdrawn)},
	}}
	f.Round = &r
	stale := f
	f, _, err = s.SaveFederation(ctx, store.FederationChange{Federation: f})
	if err != nil || f.Generation != 2 {
		t.Fatalf("%+v, %v", f, err)
	}
	_, _, err = s.SaveFederation(ctx, store.FederationChange{Federation: stale, Rounds: []federation.Round{r}})
	wantCode(t, err, galley.Aborted)
	if named := references(t, s); !named[update] || named[withdrawn] || !named[f.Base] {
		t.Errorf("an open round names %v", named)
	}
	_, err = s.Round(ctx, "run-1", 1, 0)
	wantCode(t, err, galley.NotFound)

	// It ends together with its federation and the job's phase.
	first := f.Base
	r.Phase, r.Aggregate = federation.Closed, Digest("aggregate")
	f.Round, f.Closed, f.Base, f.State = nil, 1, r.Aggregate, federation.Succeeded
	j.Progress.Step = 1
	f, saved, err := s.SaveFederation(ctx, store.FederationChange{Federation: f, Rounds: []federation.Round{r}, Job: &j, Commit: by("")})
	if err != nil || saved.Generation != 2 {
		t.Fatalf("%+v, %v", saved, err)
	}
	if named := references(t, s); named[update] || named[first] || !named[f.Base] {
		t.Errorf("a closed round names %v", named)
	}
	got := must[store.Federation](t)(s.Federation(ctx, "run-1"))
	wantEqual(t, "federation", got, f)
	kept := must[store.Round](t)(s.Round(ctx, "run-1", 1, 0))
	if record := must[[]byte](t)(json.Marshal(r)); kept.Digest != galley.DigestBytes(record) || kept.Aggregate != r.Aggregate {
		t.Errorf("%+v", kept)
	}
	_, err = s.AmendRound(ctx, "run-1", kept)
	wantCode(t, err, galley.Aborted) // what a version comes from stays
	var closed []store.Round
	if err := s.ClosedRounds(ctx, "run-1", func(r store.Round) error { closed = append(closed, r); return nil }); err != nil {
		t.Error(err)
	}
	if len(closed) != 1 || closed[0].Digest != kept.Digest {
		t.Errorf("%+v", closed)
	}
	saved.Phase = trainer.Succeeded
	must[trainer.Job](t)(s.SaveJob(ctx, *saved, by("")))
	if named := references(t, s); named[f.Base] {
		t.Error("a federation whose version is published still needs its weights")
	}
	_, err = s.Federation(ctx, "job-9")
	wantCode(t, err, galley.NotFound)
}

func testRounds(t *testing.T, s Store) {
	ctx := t.Context()
	_, f, err := s.CreateFederation(ctx, runningJob("run-1"), federationOf("run-1", "topics"), by("job.submit"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []federation.Round{{Number: 1, Attempt: 1, Phase: federation.Failed}, {Number: 1, Attempt: 2, Phase: federation.Closed}, {Number: 2, Attempt: 1, Phase: federation.Failed}} {
		if f, _, err = s.SaveFederation(ctx, store.FederationChange{Federation: f, Rounds: []federation.Round{r}}); err != nil {
			t.Fatal(err)
		}
	}
	list := must[[]store.Round](t)(s.Rounds(ctx, "run-1", 2))
	if len(list) != 2 || list[0].Number != 2 || list[1].Attempt != 2 {
		t.Errorf("%+v", list)
	}
	r := must[store.Round](t)(s.Round(ctx, "run-1", 1, 0))
	if r.Attempt != 2 {
		t.Errorf("%+v", r)
	}
	r = must[store.Round](t)(s.Round(ctx, "run-1", 1, 1))
	before := r
	r.Strangers = 3
	amended := must[store.Round](t)(s.AmendRound(ctx, "run-1", r))
	wantEqual(t, "amended", must[store.Round](t)(s.Round(ctx, "run-1", 1, 1)), amended)
	_, err = s.AmendRound(ctx, "run-1", before)
	wantCode(t, err, galley.Aborted)
	// A round has one record.
	_, _, err = s.SaveFederation(ctx, store.FederationChange{Federation: f, Rounds: []federation.Round{r.Round}})
	wantCode(t, err, galley.FailedPrecondition)

	// Two jobs of one federation: the second has to wait, also to be resumed.
	j := must[trainer.Job](t)(s.Job(ctx, "run-1"))
	j.Phase = trainer.Failed
	j = must[trainer.Job](t)(s.SaveJob(ctx, j, by("")))
	if _, _, err := s.CreateFederation(ctx, runningJob("run-2"), federationOf("run-2", "topics"), by("job.submit")); err != nil {
		t.Fatal(err)
	}
	j.Phase = trainer.Running
	_, _, err = s.SaveFederation(ctx, store.FederationChange{Federation: f, Job: &j, JobCommit: by("job.resume")})
	wantCode(t, err, galley.FailedPrecondition)
	if j := must[trainer.Job](t)(s.Job(ctx, "run-1")); j.Phase != trainer.Failed {
		t.Errorf("half of a change is stored: %+v", j)
	}
}

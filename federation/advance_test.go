package federation

import (
	"crypto/ed25519"
	"reflect"
	"strings"
	"testing"
	"time"

	"galley"
)

// advance applies events and returns the effects of all.
func advance(t *testing.T, f Federation, events ...Event) (Federation, []Effect) {
	t.Helper()
	var all []Effect
	for _, e := range events {
		var effects []Effect
		var err error
		if f, effects, err = Advance(f, e); err != nil {
			t.Fatal(err)
		}
		all = append(all, effects...)
	}
	return f, all
}

func newFederation(t *testing.T, change func(*Terms), partners ...string) Federation {
	t.Helper()
	terms := testTerms()
	if change != nil {
		change(&terms)
	}
	f, err := New(terms, galley.DigestBytes([]byte("base")), began)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range partners {
		f, _ = advance(t, f, Joined{memberOf(p)})
	}
	return f
}

// answered submits an update of each partner to the present round.
func answered(f Federation, partners ...string) []Event {
	var events []Event
	for _, p := range partners {
		digest := galley.DigestBytes([]byte(p))
		h := Header{
			Protocol: Protocol, Federation: "headlines", Run: f.Terms.Run, Round: f.Round.Number, Attempt: f.Round.Attempt, Partner: p,
			Agreement: agreementOf(p).Digest(), Base: f.Round.Base, Update: digest, Rows: 10,
		}
		events = append(events, Submitted{At: f.Round.Opened, Header: Sign(h, keyOf(p)), Finding: Finding{digest, 1}})
	}
	return events
}

func TestFederationRunsItsRounds(t *testing.T) {
	f := newFederation(t, nil, "b", "a", "c")
	var kept []Round
	for n := 1; n <= 3; n++ {
		base := f.Base
		f, _ = advance(t, f, Ticked{began, []string{"a", "b", "c"}})
		if f.Round == nil || f.Round.Number != n || f.Round.Base != base {
			t.Fatalf("round %d: %+v", n, f.Round)
		}
		f, _ = advance(t, f, answered(f, "a", "b", "c")...)
		next := galley.DigestBytes([]byte{byte(n)})
		var effects []Effect
		f, effects = advance(t, f, Aggregated{began, n, 1, 1, next}, Aggregated{began, n, 1, 1, galley.DigestBytes(nil)})
		if f.Base != next || f.Closed != n || f.Round != nil {
			t.Fatalf("after round %d: %+v", n, f)
		}
		kept = append(kept, effects[0].(KeepRound).Round)
		if n == 3 && !reflect.DeepEqual(effects[1:], []Effect{Finish{next}}) {
			t.Errorf("%v", effects)
		}
	}
	if f.State != Succeeded || f.Members[0].Answered != 3 || !reflect.DeepEqual(f.Resume(), []Effect{Finish{f.Base}}) {
		t.Errorf("%+v", f)
	}
	for i, r := range kept {
		if r.Number != i+1 || r.Phase != Closed {
			t.Errorf("%+v", r)
		}
	}
	after, effects := advance(t, f, Ticked{began, nil}, Cancelled{began, "late"}, Revoked{began, "a", "x"})
	if !reflect.DeepEqual(after, f) || len(effects) != 0 {
		t.Error("a federation that has ended changes")
	}
}

func TestFailedAttemptsAreRepeated(t *testing.T) {
	f := newFederation(t, func(t *Terms) { t.Attempts = 2 }, "a", "b")
	base := f.Base
	f, _ = advance(t, f, Ticked{began, []string{"a", "b"}})
	f, effects := advance(t, f, Ticked{At: began.Add(time.Hour)})
	if f.Round != nil || f.Attempt != 1 || f.State != Running || effects[0].(KeepRound).Round.Phase != Failed {
		t.Fatalf("%+v", f)
	}
	again := began.Add(time.Hour + time.Minute)
	if due, ok := f.Due(); !ok || !due.Equal(again) {
		t.Errorf("due at %s", due)
	}
	if f, _ = advance(t, f, Ticked{again.Add(-time.Second), []string{"a", "b"}}); f.Round != nil {
		t.Error("no pause")
	}
	f, _ = advance(t, f, Ticked{again, []string{"a", "b"}})
	if f.Round.Number != 1 || f.Round.Attempt != 2 || f.Round.Base != base {
		t.Fatalf("%+v", f.Round)
	}
	f, effects = advance(t, f, Ticked{At: again.Add(time.Hour)})
	if f.State != Broken || !strings.Contains(f.Failure, "round 1 failed 2 times, at last: 0 of 2 partners") || effects[1] != (Finish{}) {
		t.Errorf("%s: %s, %v", f.State, f.Failure, effects)
	}
}

// Who cannot be asked is not, and the record says why.
func TestWhoIsAsked(t *testing.T) {
	f := newFederation(t, nil, "a", "b", "c", "d", "e", "f")
	for name, change := range map[string]func(*Agreement){
		"c": func(a *Agreement) { a.MinCohort = 9 },
		"d": func(a *Agreement) { a.Expires = began },
		"f": func(a *Agreement) { a.Requires = []Capability{SecureAggregation} },
	} {
		m := memberOf(name)
		change(&m.Agreement)
		f, _ = advance(t, f, Joined{m})
	}
	f, _ = advance(t, f, Revoked{began, "e", "key lost"})
	f, _ = advance(t, f, Ticked{began, []string{"a", "c", "d", "e", "f"}})
	if f.Round != nil || f.Waiting != "round 1 needs 2 partners and has 1; b: its agent is not connected; "+
		"c: agreement.min_cohort: wants 9 partners in an aggregate, and the round would do with 2; d: agreement.expires: has ended at 2026-03-01T09:00:00Z; "+
		"e: its access was revoked: key lost; f: agreement.requires: wants secure-aggregation, and the round goes without" {
		t.Fatalf("%s", f.Waiting)
	}
	if _, ok := f.Due(); ok {
		t.Error("time alone brings no partner")
	}
	f, _ = advance(t, f, Ticked{began, []string{"a", "b", "c", "d", "e", "f"}})
	if f.Round == nil || len(f.Round.Cohort) != 2 || len(f.Round.Passed) != 4 || f.Waiting != "" {
		t.Errorf("%+v", f.Round)
	}
}

// What the coordinator offers is what the partner's agreement permits.
func TestOffersArePermitted(t *testing.T) {
	f := newFederation(t, func(t *Terms) { t.Strategy, t.Mu, t.Clip = FedProx, 0.1, 2 }, "a", "b")
	f, effects := advance(t, f, Ticked{began, []string{"a", "b"}})
	if !reflect.DeepEqual(effects, []Effect{Announce{1, 1, []string{"a", "b"}}}) || !reflect.DeepEqual(f.Resume(), effects) {
		t.Errorf("%v", effects)
	}
	o, ok := f.Round.Offer("a", began.Add(20*time.Minute))
	if !ok || o.Within != 40*time.Minute || o.Mu != 0.1 || o.Clip != 2 || o.Base != f.Base || string(o.Recipe) != `{"epochs":1}` {
		t.Fatalf("%+v", o)
	}
	// The agent's clock is an hour off; that is not what ends the round.
	for _, offset := range []time.Duration{-time.Hour, time.Hour} {
		if err := agreementOf("a").Permits(o, 0, began.Add(offset)); err != nil {
			t.Error(err)
		}
	}
	if _, ok := f.Round.Offer("z", began); ok {
		t.Error("a stranger has an offer")
	}
	if _, ok := f.Round.Offer("a", began.Add(time.Hour)); ok {
		t.Error("an offer after the deadline")
	}
	f, _ = advance(t, f, answered(f, "a")...)
	if _, ok := f.Round.Offer("a", began); ok {
		t.Error("who has answered is asked again")
	}
	if !reflect.DeepEqual(f.Resume(), []Effect{Announce{1, 1, []string{"b"}}}) {
		t.Errorf("%v", f.Resume())
	}
	f, effects = advance(t, f, answered(f, "b")...)
	if !reflect.DeepEqual(f.Resume(), effects) {
		t.Errorf("%v, want %v", f.Resume(), effects)
	}
}

func TestCancelledFederation(t *testing.T) {
	f := newFederation(t, nil, "a", "b")
	f, _ = advance(t, f, Ticked{began, []string{"a", "b"}})
	f, effects := advance(t, f, Cancelled{began, "the contract has ended"})
	if f.State != Ended || f.Failure != "cancelled: the contract has ended" || len(effects) != 2 || effects[1] != (Finish{}) {
		t.Errorf("%+v, %v", f, effects)
	}
}

func TestSamplingIsFairAndRepeatable(t *testing.T) {
	var members []Member
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	for _, n := range names {
		members = append(members, Member{Name: n})
	}
	drawn := make(map[string]int)
	const rounds = 4000
	for round := range rounds {
		chosen := sample(members, 3, 7, round, 1)
		if !reflect.DeepEqual(chosen, sample(members, 3, 7, round, 1)) {
			t.Fatal("another draw of the same round")
		}
		for _, m := range chosen {
			drawn[m.Name]++
		}
	}
	for _, n := range names {
		// 1500 expected; five standard deviations are 153.
		if d := drawn[n]; d < 1347 || d > 1653 {
			t.Errorf("%s was drawn %d times of %d", n, d, rounds)
		}
	}
	if reflect.DeepEqual(sample(members, 3, 7, 1, 1), sample(members, 3, 7, 1, 2)) && reflect.DeepEqual(sample(members, 3, 7, 2, 1), sample(members, 3, 7, 2, 2)) {
		t.Error("the next attempt asks the same")
	}
}

func TestJoinRefuses(t *testing.T) {
	f := newFederation(t, nil, "a")
	for name, change := range map[string]func(*Member){
		"no name":            func(m *Member) { m.Name = "A B" },
		"no key":             func(m *Member) { m.Key = ed25519.PublicKey{1} },
		"another's":          func(m *Member) { m.Agreement.Partner = "c" },
		"another federation": func(m *Member) { m.Agreement.Federation = "captions" },
		"no agreement":       func(m *Member) { m.Agreement = Agreement{Partner: "b", Federation: "headlines"} },
	} {
		m := memberOf("b")
		change(&m)
		if after, _, err := Advance(f, Joined{m}); galley.CodeOf(err) != galley.InvalidArgument || len(after.Members) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A new key counts from the next round on, and the count of rounds goes on.
func TestKeyIsRotated(t *testing.T) {
	f := newFederation(t, nil, "a", "b")
	f, _ = advance(t, f, Ticked{began, []string{"a", "b"}})
	m := memberOf("a")
	m.Key = keyOf("new").Public().(ed25519.PublicKey)
	f, _ = advance(t, f, Joined{m})
	f, _ = advance(t, f, answered(f, "a", "b")...)
	f, _ = advance(t, f, Aggregated{began, 1, 1, 1, galley.DigestBytes(nil)})
	if f.Closed != 1 || f.Members[0].Answered != 1 {
		t.Fatalf("%+v", f)
	}
	f, _ = advance(t, f, Ticked{began, []string{"a", "b"}})
	f, _ = advance(t, f, answered(f, "a")...)
	if e, _ := f.Round.Entry("a"); e.Refusals[0].Reason != BadSignature {
		t.Errorf("the old key still signs: %+v", e)
	}
}

// A revoked partner does not let itself in again.
func TestRevocationStands(t *testing.T) {
	f := newFederation(t, nil, "a", "b")
	f, _ = advance(t, f, Revoked{began, "a", "key lost"})
	_, _, err := Advance(f, Joined{memberOf("a")})
	if galley.CodeOf(err) != galley.PermissionDenied || !strings.Contains(err.Error(), "its access was revoked: key lost") {
		t.Fatal(err)
	}
	f, _ = advance(t, f, Ticked{began, []string{"a", "b"}})
	if f.Round != nil {
		t.Fatal("it is asked")
	}
	f, _ = advance(t, f, Reinstated{began, "a"}, Joined{memberOf("a")}, Ticked{began, []string{"a", "b"}})
	if f.Round == nil || len(f.Round.Cohort) != 2 {
		t.Errorf("%s", f.Waiting)
	}
}

func TestTermsMistakes(t *testing.T) {
	if err := testTerms().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		change func(*Terms)
		want   string
	}{
		{func(t *Terms) { t.Run = "Job 1" }, `run: "Job 1" is not a name — use 1 to 63 lower-case letters, digits, dots, dashes or underscores, beginning with a letter or digit`},
		{func(t *Terms) { t.Rounds = 0 }, "rounds: is 0 — write a number from 1 to 10000"},
		{func(t *Terms) { t.MinCohort = 1 }, "min_cohort: is 1 — write a number from 2 to 500"},
		{func(t *Terms) { t.Sample = 1 }, "sample: is 1, and min_cohort 2 — write 0 for all, or a number from min_cohort to 500"},
		{func(t *Terms) { t.Enough = 501 }, "enough: is 501, and min_cohort 2 — write 0 for all, or a number from min_cohort to 500"},
		{func(t *Terms) { t.Within = time.Millisecond }, "within: is 1ms — write a time from 1s to 720h"},
		{func(t *Terms) { t.Mu = 1 }, "mu: belongs to fedprox — write strategy: fedprox, or leave mu out"},
		{func(t *Terms) { t.Strategy = FedProx }, "mu: is 0 — write a number above 0, at most 1000"},
		{func(t *Terms) { t.Strategy = "krum" }, `strategy: "krum" is not known here — write fedavg or fedprox`},
		{func(t *Terms) { t.Weighting = "all" }, `weighting: "all" is not known here — write rows or uniform`},
		{func(t *Terms) { t.MaxShare = 0 }, "max_share: is 0 — write a number above 0, at most 1"},
		{func(t *Terms) { t.Clip = -1 }, "clip: is -1 — write a number from 0, for none, to 1e12"},
		{func(t *Terms) { t.MaxNorm = 1e13 }, "max_norm: is 1e+13 — write a number from 0, for none, to 1e12"},
		{func(t *Terms) { t.Metrics = []string{"loss", "loss"} }, `metrics: names "loss" twice — keep one`},
		{func(t *Terms) { t.Recipe = []byte(`{"epochs":`) }, "recipe: is no JSON object — give the recipe of a job file, in JSON"},
		{func(t *Terms) { t.Recipe = []byte("[]") }, "recipe: is no JSON object — give the recipe of a job file, in JSON"},
		{func(t *Terms) { t.Recipe = make([]byte, 1<<20) }, "recipe: has 1048576 bytes; at most 16384 are possible — give the recipe of a job file, in JSON"},
		{func(t *Terms) { t.Layout = "x" }, `layout: "x" is not a digest — give the digest of the model's layout`},
	} {
		terms := testTerms()
		tt.change(&terms)
		if err := terms.Validate(); galley.CodeOf(err) != galley.InvalidArgument || galley.AsError(err).Message != tt.want {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}

package federation

import (
	"crypto/ed25519"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"galley"
)

func TestRoundClosesWhenAllHaveAnswered(t *testing.T) {
	b := newBench(t, nil)
	for i, partner := range []string{"b", "a"} {
		if effects := b.step(b.update(partner, uint64(i+1), int64(100*(i+1)), began.Add(time.Minute))); len(effects) != 0 {
			t.Fatalf("aggregated after %d of 3: %v", i+1, effects)
		}
	}
	effects := b.step(b.update("c", 3, 300, began.Add(2*time.Minute)))
	want := []Effect{StartAggregation{1, 1, 1, b.base, b.round.Parts()}}
	if !reflect.DeepEqual(effects, want) || b.round.Phase != Aggregating || len(b.round.Parts()) != 3 {
		t.Fatalf("%v, want %v", effects, want)
	}
	// a: 200 of 600 rows, b: 100, c: 300; the losses are 2, 1 and 3.
	if p := b.round.Parts(); math.Abs(p[0].Share-1./3) > 1e-12 || math.Abs(p[1].Share-1./6) > 1e-12 || p[2].Share != 0.5 {
		t.Errorf("shares %v", p)
	}
	if got := b.round.Metrics["loss"]; math.Abs(got-(2./3+1./6+1.5)) > 1e-12 {
		t.Errorf("a loss of %g", got)
	}
	if !b.round.SingleUpdatesSeen || len(b.round.Capabilities) != 0 {
		t.Error("the record must say that the coordinator saw single updates")
	}
	b.step(Aggregated{began.Add(time.Hour), 1, 1, 1, "sha256:x"})
	if b.round.Phase != Closed || b.round.Aggregate != "sha256:x" || len(b.round.Holds()) != 1 {
		t.Errorf("%+v", b.round)
	}
}

// Each bad update costs itself: the record says why, its partner can still send
// a good one, and the round goes on as if nothing had come.
func TestRefusals(t *testing.T) {
	at := began.Add(time.Minute)
	resign := func(change func(*Header)) func(*bench, *Submitted) {
		return func(_ *bench, s *Submitted) {
			change(&s.Header.Header)
			s.Header = Sign(s.Header.Header, keyOf("a"))
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*bench, *Submitted)
		want   Reason
		code   galley.Code
		says   string
	}{
		{"signature", func(_ *bench, s *Submitted) { s.Header.Signature[5] ^= 1 }, BadSignature, galley.Unauthenticated, "is not signed with the key of a"},
		{"another's key", func(_ *bench, s *Submitted) { s.Header = Sign(s.Header.Header, keyOf("b")) }, BadSignature, galley.Unauthenticated, "key of a"},
		{"changed after signing", func(_ *bench, s *Submitted) { s.Header.Rows++ }, BadSignature, galley.Unauthenticated, "key of a"},
		{"protocol", resign(func(h *Header) { h.Protocol = 2 }), WrongProtocol, galley.Unimplemented, "is of version 2"},
		{"capabilities", resign(func(h *Header) { h.Capabilities = []Capability{SecureAggregation} }), WrongProtocol, galley.Unimplemented, "with 1 capabilities"},
		{"agreement", resign(func(h *Header) { h.Agreement = galley.DigestBytes(nil) }), WrongAgreement, galley.PermissionDenied, "was made under the agreement e3b0c44298fc"},
		{"round before", resign(func(h *Header) { h.Round = 0 }), Stale, galley.FailedPrecondition, "is for round 0, attempt 1; this is round 1, attempt 1"},
		{"run before", resign(func(h *Header) { h.Run = "job-0" }), Stale, galley.FailedPrecondition, `is for the run "job-0" of the federation; this is "job-1"`},
		{"attempt", resign(func(h *Header) { h.Attempt = 2 }), Stale, galley.FailedPrecondition, "attempt 2"},
		{"base", resign(func(h *Header) { h.Base = galley.DigestBytes(nil) }), Stale, galley.FailedPrecondition, "began with the weights e3b0c44298fc"},
		{"late", func(b *bench, s *Submitted) { s.At = began.Add(time.Hour) }, Late, galley.DeadlineExceeded, "the round is failed"},
		{"NaN", func(_ *bench, s *Submitted) { s.Fault = faultf(NotFinite, "has a number") }, NotFinite, galley.InvalidArgument, "has a number"},
		{"shape", func(_ *bench, s *Submitted) { s.Fault = faultf(WrongShape, "lacks a tensor") }, WrongShape, galley.InvalidArgument, "lacks a tensor"},
		{"10 GB", func(_ *bench, s *Submitted) { s.Fault = faultf(TooLarge, "goes on after its end") }, TooLarge, galley.ResourceExhausted, "goes on"},
		{"other bytes", func(_ *bench, s *Submitted) { s.Finding.Digest = galley.DigestBytes(nil) }, Damaged, galley.DataLoss, "has other bytes than were signed: e3b0c44298fc"},
		{"too far", func(_ *bench, s *Submitted) { s.Finding.Norm = 2e6 }, TooFar, galley.InvalidArgument, "its norm is 2e+06; the round takes at most 1e+06"},
		{"norm NaN", func(_ *bench, s *Submitted) { s.Finding.Norm = math.NaN() }, NotFinite, galley.InvalidArgument, "norm"},
		{"more rows than declared", resign(func(h *Header) { h.Rows = 10_001 }), WrongRows, galley.InvalidArgument, "says 10001 rows; its agreement declares at most 10000"},
		{"no rows", resign(func(h *Header) { h.Rows = 0 }), WrongRows, galley.InvalidArgument, "says 0 rows"},
		{"fewer than no rows", resign(func(h *Header) { h.Rows = -5 }), WrongRows, galley.InvalidArgument, "says -5 rows"},
		{"metric not asked for", resign(func(h *Header) { h.Metrics = map[string]float64{"first-line": 7} }), NotAgreed, galley.PermissionDenied, `tells the metric "first-line"`},
		{"metric that sums cannot hold", resign(func(h *Header) { h.Metrics = map[string]float64{"loss": -math.MaxFloat64} }), NotFinite, galley.InvalidArgument, `metric "loss"`},
		{"metric NaN", resign(func(h *Header) { h.Metrics = map[string]float64{"loss": math.Inf(1)} }), NotFinite, galley.InvalidArgument, `metric "loss"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, func(t *Terms) { t.MaxNorm = 1e6 })
			bad := b.update("a", 1, 100, at)
			tt.change(b, &bad)
			after, _, err := Step(b.round, bad)
			if err != nil {
				t.Fatal(err)
			}
			e, _ := after.Entry("a")
			if e.Refused != 1 || len(e.Refusals) != 1 || e.Refusals[0].Reason != tt.want || !strings.Contains(e.Refusals[0].Message, tt.says) {
				t.Fatalf("the record says %+v", e)
			}
			err = after.Judge(bad).Error()
			if galley.CodeOf(err) != tt.code || galley.AsError(err).Remedy == "" {
				t.Errorf("the partner is told %v", err)
			}
			if tt.want == Late {
				return
			}
			b.round = after
			for i, partner := range []string{"a", "b", "c"} {
				b.step(b.update(partner, uint64(i), 100, at))
			}
			if b.round.Phase != Aggregating || len(b.round.Parts()) != 3 {
				t.Errorf("the round did not go on: %+v", b.round)
			}
		})
	}
}

func TestResentCountsOnce(t *testing.T) {
	b := newBench(t, nil)
	first := b.update("a", 1, 100, began)
	b.step(first)
	for range 3 {
		b.step(first)
	}
	e, _ := b.round.Entry("a")
	if e.Resent != 3 || e.Refused != 0 || !b.round.Judge(first).OK() || b.round.Judge(first).Error() != nil {
		t.Errorf("%+v", e)
	}
	second := b.update("a", 2, 100, began)
	b.step(second)
	if e, _ := b.round.Entry("a"); e.Refusals[0].Reason != Duplicate || e.Header.Update != first.Header.Update {
		t.Errorf("a second update: %+v", e)
	}
	if galley.CodeOf(b.round.Judge(second).Error()) != galley.FailedPrecondition {
		t.Error(b.round.Judge(second).Error())
	}
	b.step(b.update("b", 3, 100, began))
	b.step(b.update("c", 4, 100, began))
	b.step(Aggregated{began, 1, 1, 1, "sha256:x"})
	if !b.round.Judge(first).OK() {
		t.Error("who did not hear that its update was accepted must be told so after the round, too")
	}
}

func TestStrangersAreCountedAlone(t *testing.T) {
	b := newBench(t, nil)
	for _, name := range []string{"d", strings.Repeat("x", 10_000), ""} {
		b.step(b.update(name, 1, 100, began))
	}
	if b.round.Strangers != 3 || b.round.count(Offered) != 3 {
		t.Errorf("%+v", b.round)
	}
}

// What a partner can write into the record is bounded.
func TestRefusalsAreBounded(t *testing.T) {
	b := newBench(t, nil)
	bad := b.update("a", 1, 100, began)
	bad.Fault = faultf(WrongShape, "%s", strings.Repeat("long ", 1000))
	for range 100 {
		b.step(bad)
	}
	if e, _ := b.round.Entry("a"); e.Refused != 100 || len(e.Refusals) != maxRefusals || len(e.Refusals[0].Message) > 300 {
		t.Errorf("%d, %d", e.Refused, len(e.Refusals))
	}
}

func TestDeadline(t *testing.T) {
	deadline := began.Add(time.Hour)
	b := newBench(t, nil)
	b.step(b.update("a", 1, 100, began))
	b.step(b.update("c", 2, 100, began))
	if effects := b.step(Ticked{At: deadline.Add(-time.Nanosecond)}); len(effects) != 0 {
		t.Fatalf("too early: %v", effects)
	}
	if effects := b.step(Ticked{At: deadline}); len(effects) != 1 || b.round.Phase != Aggregating {
		t.Fatalf("%v", effects)
	}
	late := b.update("b", 3, 100, deadline)
	b.step(late)
	if e, _ := b.round.Entry("b"); e.Standing != Straggler || e.Refusals[0].Reason != Late || len(b.round.Parts()) != 2 {
		t.Errorf("%+v", e)
	}

	b = newBench(t, nil)
	b.step(b.update("a", 1, 100, began))
	if b.step(Ticked{At: deadline}); b.round.Phase != Failed || b.round.Failure != "1 of 3 partners gave an update that counts; the minimum cohort is 2" {
		t.Errorf("%s: %s", b.round.Phase, b.round.Failure)
	}
	if len(b.round.Holds()) != 0 {
		t.Error("a round that failed still holds updates")
	}
}

// An update after the deadline is late also if no tick has come in between.
func TestDeadlineNeedsNoTick(t *testing.T) {
	b := newBench(t, nil)
	b.step(b.update("a", 1, 100, began))
	b.step(b.update("b", 2, 100, began))
	if effects := b.step(b.update("c", 3, 100, began.Add(time.Hour))); len(effects) != 1 || len(b.round.Parts()) != 2 {
		t.Errorf("%v", effects)
	}
}

func TestEnoughEndsTheRound(t *testing.T) {
	b := newBench(t, func(t *Terms) { t.Enough = 2 })
	b.step(b.update("a", 1, 100, began))
	if effects := b.step(b.update("b", 2, 100, began)); len(effects) != 1 || b.round.count(Straggler) != 1 {
		t.Errorf("%v, %+v", effects, b.round)
	}
}

func TestDeclinedAndWithdrawn(t *testing.T) {
	b := newBench(t, nil)
	b.step(Refused{began, "a", 1, 2, "another attempt"})
	b.step(Refused{began, "z", 1, 1, "nobody"})
	if b.round.count(Offered) != 3 {
		t.Fatal("a refusal of another attempt, or of a stranger, counts")
	}
	b.step(b.update("b", 1, 100, began))
	b.step(b.update("c", 2, 100, began))
	if effects := b.step(Refused{began, "a", 1, 1, "agreement.rounds: allows 3 rounds"}); len(effects) != 1 {
		t.Fatalf("nobody is waited for: %v", effects)
	}
	if e, _ := b.round.Entry("a"); e.Standing != Declined || e.Why != "agreement.rounds: allows 3 rounds" {
		t.Errorf("%+v", e)
	}
	// An accepted update is taken out while it is aggregated; too few are left.
	b.step(Revoked{began, "c", "key lost"})
	if b.round.Phase != Failed {
		t.Errorf("%+v", b.round)
	}

	b = newBench(t, nil)
	for i, p := range []string{"a", "b", "c"} {
		b.step(b.update(p, uint64(i), 100, began))
	}
	effects := b.step(Revoked{began, "c", "key lost"})
	if len(effects) != 1 || effects[0].(StartAggregation).Ordinal != 2 || len(b.round.Parts()) != 2 {
		t.Fatalf("%v", effects)
	}
	if b.step(Aggregated{began, 1, 1, 1, "sha256:with-c"}); b.round.Phase != Aggregating {
		t.Error("the aggregation with the withdrawn update was taken")
	}
	if b.step(Aggregated{began, 1, 1, 2, "sha256:without-c"}); b.round.Aggregate != "sha256:without-c" {
		t.Errorf("%+v", b.round)
	}
}

func TestSpoiltUpdateIsTakenOut(t *testing.T) {
	b := newBench(t, nil)
	for i, p := range []string{"a", "b", "c"} {
		b.step(b.update(p, uint64(i), 100, began))
	}
	if effects := b.step(Broke{began, 1, 1, 7, "a", faultf(Damaged, "x")}); len(effects) != 0 || len(b.round.Parts()) != 3 {
		t.Fatal("another aggregation's fault counts")
	}
	effects := b.step(Broke{began, 1, 1, 1, "a", faultf(NotFinite, "would make w infinite")})
	if len(effects) != 1 || len(b.round.Parts()) != 2 || b.round.Parts()[0].Share != 0.5 {
		t.Fatalf("%v", effects)
	}
	if e, _ := b.round.Entry("a"); e.Standing != Spoilt || e.Refusals[0].Reason != NotFinite {
		t.Errorf("%+v", e)
	}
}

func TestCancelledRound(t *testing.T) {
	b := newBench(t, nil)
	b.step(Cancelled{began, "enough"})
	if b.round.Phase != Failed || b.round.Failure != "cancelled: enough" {
		t.Errorf("%+v", b.round)
	}
}

// Step gives what it is given back unchanged, whatever happens.
func TestStepIsPure(t *testing.T) {
	b := newBench(t, nil)
	b.step(b.update("a", 1, 100, began))
	before := stored(t, b.round)
	bad := b.update("b", 2, 0, began)
	for _, e := range []Event{
		bad, b.update("a", 1, 100, began), b.update("a", 5, 100, began), b.update("c", 2, 100, began), Ticked{At: began.Add(time.Hour)},
		Refused{began, "b", 1, 1, "no"}, Revoked{began, "a", "gone"}, Cancelled{began, "no"},
	} {
		if _, _, err := Step(b.round, e); err != nil || !reflect.DeepEqual(stored(t, b.round), before) {
			t.Errorf("%T changed what it was given: %v", e, err)
		}
	}
	if _, _, err := Step(b.round, Joined{}); galley.CodeOf(err) != galley.Internal {
		t.Errorf("an event of federations: %v", err)
	}
}

func TestVerify(t *testing.T) {
	h := Sign(Header{Protocol: 1, Partner: "a", Metrics: map[string]float64{"loss": 1, "accuracy": 2}}, keyOf("a"))
	public := keyOf("a").Public().(ed25519.PublicKey)
	if !h.Verify(public) || h.Verify(public[:31]) || h.Verify(nil) {
		t.Error("verification")
	}
	// Texts cannot be moved from one field into the next.
	a, b := Header{Federation: "ab", Partner: "c"}, Header{Federation: "a", Partner: "bc"}
	if string(a.canonical()) == string(b.canonical()) {
		t.Error("two headers are signed alike")
	}
}

// However large the metrics are that partners tell, the record of a round can be
// stored.
func TestLargestMetrics(t *testing.T) {
	b := newBench(t, nil)
	for i, partner := range []string{"a", "b", "c"} {
		s := b.update(partner, uint64(i+1), []int64{3, 701, 12}[i], began.Add(time.Minute))
		s.Header.Metrics = map[string]float64{"loss": maxMetric}
		s.Header = Sign(s.Header.Header, keyOf(partner))
		b.step(s)
	}
	if _, err := json.Marshal(b.round); err != nil || b.round.Phase != Aggregating || math.Abs(b.round.Metrics["loss"]/maxMetric-1) > 1e-9 {
		t.Errorf("%+v, %v", b.round.Metrics, err)
	}
}

func TestLedger(t *testing.T) {
	offer := Offer{Federation: "headlines", Run: "job-1", Round: 2, Attempt: 2, Base: "sha256:a"}
	var l Ledger
	if _, ok, err := l.Find(offer); ok || err != nil {
		t.Fatal(err)
	}
	all := Ledger{}
	for _, h := range []Header{
		{Federation: "captions", Run: "job-1", Round: 9, Attempt: 1},
		{Federation: "headlines", Run: "job-1", Round: 1, Attempt: 1}, {Federation: "headlines", Run: "job-1", Round: 1, Attempt: 2},
		{Federation: "headlines", Run: "job-1", Round: 2, Attempt: 2, Base: "sha256:a", Rows: 9},
	} {
		l = l.Add(SignedHeader{Header: h})
		all.Answers = append(all.Answers, SignedHeader{Header: h})
	}
	if up := all.Upgrade(); !reflect.DeepEqual(up, l) || !reflect.DeepEqual(l.Upgrade(), l) {
		t.Errorf("an earlier release's is %+v, and should be %+v", up, l)
	}
	if h, ok, err := l.Find(offer); !ok || err != nil || h.Rows != 9 {
		t.Errorf("%+v, %v", h, err)
	}
	if n := l.Answered(offer); n != 1 {
		t.Errorf("%d other rounds", n)
	}
	for _, tt := range []struct {
		name           string
		round, attempt int
		base           galley.Digest
		train          bool
	}{
		{"the next round", 3, 1, "sha256:b", true},
		{"another attempt", 2, 3, "sha256:a", true},
		{"the same attempt with other weights", 2, 2, "sha256:b", false},
		{"another attempt with other weights", 2, 3, "sha256:b", false},
		{"an attempt before", 2, 1, "sha256:a", false},
		{"a round before", 1, 2, "", false},
		{"another attempt at a round before", 1, 3, "", false},
	} {
		o := offer
		o.Round, o.Attempt, o.Base = tt.round, tt.attempt, tt.base
		if _, ok, err := l.Find(o); ok || tt.train != (err == nil) || !tt.train && galley.CodeOf(err) != galley.PermissionDenied {
			t.Errorf("%s: %v, %v", tt.name, ok, err)
		}
	}
	// Another run begins anew, and what was answered in this one still counts.
	again := Offer{Federation: "headlines", Run: "job-2", Round: 1, Attempt: 1, Base: "sha256:c"}
	if _, ok, err := l.Find(again); ok || err != nil || l.Answered(again) != 2 {
		t.Errorf("another run: %v, %d", err, l.Answered(again))
	}
	// The answer before is not known any more, and is not given anew.
	before := l
	l = l.Add(SignedHeader{Header: Header{Federation: "headlines", Run: "job-2", Round: 1, Attempt: 1, Base: "sha256:c"}})
	if _, ok, err := l.Find(offer); ok || galley.CodeOf(err) != galley.PermissionDenied {
		t.Errorf("%v, %v", ok, err)
	}
	if len(before.Runs) != 2 || before.Runs[1].Round != 2 {
		t.Errorf("adding to a ledger changes the one before: %+v", before)
	}
}

// A ledger stays as small as it is, whatever the rounds and attempts.
func TestLedgerIsBounded(t *testing.T) {
	var l Ledger
	sizes := map[int]int{}
	for round := 1; round <= MaxRounds; round++ {
		l = l.Add(Sign(Header{Protocol: Protocol, Federation: "headlines", Run: "news-topic-b4ru2zzkxn", Round: round, Attempt: 1 + round%3, Partner: "harbour-gazette",
			Base: galley.DigestBytes(nil), Update: galley.DigestBytes(nil), Rows: 8200, Metrics: map[string]float64{"loss": .5}}, keyOf("harbour-gazette")))
		if round == 1 || round == MaxRounds {
			data, err := json.Marshal(l)
			if err != nil {
				t.Fatal(err)
			}
			sizes[round] = len(data)
		}
	}
	if n := l.Answered(Offer{Federation: "headlines"}); n != MaxRounds || sizes[MaxRounds] > sizes[1]+100 {
		t.Errorf("%d rounds, %d bytes after the first and %d in the end", n, sizes[1], sizes[MaxRounds])
	}
}

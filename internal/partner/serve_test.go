package partner

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/federation"
	"galley/trainer"
	"galley/trainer/launch"
)

// Two partners and an honest coordinator make three rounds.
func TestServe(t *testing.T) {
	c := newCoordinator(t, nil)
	a, b := newSide(t, c, "harbour"), newSide(t, c, "valley")
	stopA, stopB := a.serve(nil), b.serve(nil)
	c.waitFor("both attending", func() bool { return len(c.attending) == 2 })
	for round := 1; round <= 3; round++ {
		c.tick()
		c.waitFor("a closed round", func() bool { return c.f.Closed == round })
	}
	if state := stateOf(c, func() federation.State { return c.f.State }); state != federation.Succeeded {
		t.Errorf("the federation is %s", state)
	}
	for _, s := range []*side{a, b} {
		eventually(t, func() bool { return len(s.sent(GotAnswer)) == 3 }, s.log.String)
	}
	if err := errors.Join(stopA(), stopB()); err != nil {
		t.Error(err)
	}
	for _, s := range []*side{a, b} {
		updates := s.sent(SentUpdate)
		if s.answered() != 3 || len(updates) != 3 || len(s.sent(GotAnswer)) != 3 || len(s.sent(SentAgreement)) != 1 {
			t.Errorf("%s answered %d times, and wrote %d updates down", s.name, s.answered(), len(updates))
		}
		for _, u := range updates {
			// Six rows have a label of the model; metrics may leave, so that some are
			// cut off to measure on. The double tells metrics that nobody asked for.
			if u.Rows < 4 || u.Rows > 6 || len(u.Metrics) != 1 || u.Metrics["loss"] != 0.5 || u.Bytes != c.layout.EncodedSize() {
				t.Errorf("%+v", u)
			}
		}
		if updates, models, work := s.files(updateFolder), s.files(modelFolder), s.files(workFolder); len(updates) != 1 || len(models) != 1 || len(work) != 0 {
			t.Errorf("left: %v, %v, %v", updates, models, work)
		}
		for _, words := range []string{"asked to take part in a round", "the agreement permits it", "training is done", "signed and stored", "leaving now", "accepted the update", "rows_told=", "metrics_told="} {
			s.log.has(t, words)
		}
	}
	for _, h := range stateOf(c, func() []federation.SignedHeader { return c.headers }) {
		if !h.Verify(c.keys[h.Partner]) || h.Rows > 6 || len(h.Metrics) != 1 {
			t.Errorf("%+v", h)
		}
	}
	// A model is fetched once for a run, weights once for a round.
	if c.calls["model"] != 2 || c.calls["weights"] != 6 {
		t.Errorf("%v", c.calls)
	}
	r := a.double.seen()[0]
	if r.Spec.Kind != trainer.KindTrain || r.Federated == nil || r.Spec.Recipe.Epochs != 1 || r.Spec.Resources.CPUs != 1 || r.Records["train"] == "" || len(r.Data.Labels) != 2 {
		t.Errorf("%+v", r)
	}
	if _, has := r.Records["test"]; has || leaks(strings.Join(c.agents, " ")) != "" {
		t.Errorf("%v, %v", r.Records, c.agents)
	}
}

// A coordinator that is gone and comes back finds the agent, and an update that
// was signed in between.
func TestCoordinatorCrashes(t *testing.T) {
	c := newCoordinator(t, nil)
	a, b := newSide(t, c, "harbour"), newSide(t, c, "valley")
	a.double.hold, b.double.hold = make(chan struct{}), make(chan struct{})
	a.serve(nil)
	b.serve(nil)
	c.waitFor("both attending", func() bool { return len(c.attending) == 2 })
	c.tick()
	eventually(t, func() bool { return len(a.double.seen()) == 1 && len(b.double.seen()) == 1 }, func() string { return "nobody trains" })
	c.crash()
	close(a.double.hold)
	close(b.double.hold)
	c.waitFor("a closed round", func() bool { return c.f.Closed == 1 })
	if n := len(a.double.seen()); n != 1 {
		t.Errorf("trained %d times", n)
	}
	a.log.has(t, "tries again by itself")
}

// What was signed is sent again after the agent was killed, and never anything
// else for the same attempt.
func TestAgentRestarts(t *testing.T) {
	c := newCoordinator(t, nil)
	a := newSide(t, c, "harbour")
	b := newSide(t, c, "valley")
	b.double.hold = make(chan struct{}) // so that the round stays open
	var arrives atomic.Bool
	c.upload = func() error {
		if !arrives.Load() {
			return status.Error(codes.PermissionDenied, "the disk is full") // as if it were lost
		}
		return nil
	}
	stopA := a.serve(nil)
	b.serve(nil)
	c.waitFor("both attending", func() bool { return len(c.attending) == 2 })
	c.tick()
	eventually(t, func() bool { return len(a.ledger().Answers) == 1 }, func() string { return "nothing was signed" })
	signed := a.ledger().Answers[0]
	if err := stopA(); err != nil {
		t.Fatal(err)
	}
	// Killed while it wrote: what is half is removed, what is whole stays.
	write(t, a.dir, "ledger.json.ABCDEFGHIJ.tmp", []byte("{"))
	write(t, filepath.Join(a.dir, updateFolder), "update.tmp", []byte("half"))
	write(t, filepath.Join(a.dir, updateFolder), galley.DigestBytes(nil).Hex(), []byte("written, not signed"))
	arrives.Store(true)
	a.double = &trainingDouble{spoil: func(v []float32) { v[0] += 1 }} // another training would give another update
	a.serve(nil)
	c.waitFor("the update", func() bool {
		return len(c.verdicts) > 0 && c.f.Round != nil && c.f.Round.Cohort[0].Standing == federation.Accepted
	})
	if h := stateOf(c, func() *federation.SignedHeader { return c.f.Round.Cohort[0].Header }); h.Update != signed.Update || string(h.Signature) != string(signed.Signature) {
		t.Errorf("%s was signed, and %s was sent", signed.Update.Short(), h.Update.Short())
	}
	if len(a.double.seen()) != 0 {
		t.Error("it trained again")
	}
	if names := a.files(updateFolder); len(names) != 1 || names[0] != signed.Update.Hex() {
		t.Errorf("%v", names)
	}
	if left, _ := filepath.Glob(filepath.Join(a.dir, "ledger.json.*.tmp")); len(left) > 0 { // the status, too, is written at any time
		t.Errorf("%v", left)
	}
	a.log.has(t, "the same update is sent again")
}

// An update whose verdict was lost counts once.
func TestResent(t *testing.T) {
	c := newCoordinator(t, nil)
	a, b := newSide(t, c, "harbour"), newSide(t, c, "valley")
	b.double.hold = make(chan struct{}) // so that the round stays open
	stop := a.serve(nil)
	b.serve(nil)
	c.waitFor("both attending", func() bool { return len(c.attending) == 2 })
	c.tick()
	c.waitFor("an update", func() bool { return len(c.verdicts) == 1 && c.verdicts[0].OK() })
	a.log.has(t, "accepted the update")
	c.offer("harbour", c.honest("harbour", 1, 1))
	c.waitFor("the same", func() bool { return len(c.verdicts) == 2 && c.verdicts[1].Resent })
	// The update is not there any more: it is not made anew.
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(a.dir, updateFolder, a.files(updateFolder)[0])); err != nil {
		t.Fatal(err)
	}
	a.serve(nil)
	c.offer("harbour", c.honest("harbour", 1, 1))
	c.waitFor("a refusal", func() bool { return len(c.declined) == 1 && c.declined[0].GetWhy() == noUpdate })
	if n := len(a.double.seen()); n != 1 {
		t.Errorf("trained %d times", n)
	}
}

// A newer attempt ends the training of an older one; the agent's end lets it
// store a checkpoint, and the deadline does not.
func TestNewerOffer(t *testing.T) {
	c := newCoordinator(t, nil)
	a := newSide(t, c, "harbour")
	a.double.hold = make(chan struct{})
	stop := a.serve(nil)
	c.offer("harbour", c.honest("harbour", 1, 1))
	eventually(t, func() bool { return len(a.double.seen()) == 1 }, a.log.String)
	c.offer("harbour", c.honest("harbour", 1, 1)) // the same again
	c.offer("harbour", c.honest("harbour", 1, 2))
	eventually(t, func() bool { return len(a.double.seen()) == 2 }, a.log.String)
	if a.double.killed != 1 || len(a.files(workFolder)) != 1 {
		t.Errorf("killed %d, %v", a.double.killed, a.files(workFolder))
	}
	c.offer("harbour", c.honest("harbour", 1, 1)) // an older one
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if a.double.stopped != 1 || len(a.double.seen()) != 2 || len(a.ledger().Answers) != 0 || len(a.files(workFolder)) != 1 {
		t.Errorf("stopped %d, %d trainings", a.double.stopped, len(a.double.seen()))
	}
	short := c.honest("harbour", 1, 2)
	short.Within.Seconds, short.Within.Nanos = 0, 500_000_000
	for i, test := range []struct {
		offer *federationpb.Offer
		most  time.Duration
	}{{short, 0}, {c.honest("harbour", 1, 3), 500 * time.Millisecond}} {
		a.double = &trainingDouble{hold: make(chan struct{})}
		stop := a.serve(func(o *Options) { o.MaxTime = test.most })
		c.offer("harbour", test.offer)
		eventually(t, func() bool { return strings.Count(a.log.String(), "time is over") == i+1 }, a.log.String)
		// On a busy machine the time may be over before a training begins.
		if n := len(a.double.seen()); a.double.killed != n {
			t.Errorf("killed %d of %d", a.double.killed, n)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	if n := stateOf(c, func() int { return len(c.declined) + len(c.verdicts) }); n != 0 {
		t.Errorf("%d calls", n)
	}
}

// A training that crashes goes on; one that cannot is declined in fixed words.
func TestTrainingFails(t *testing.T) {
	secret := galley.Errorf(galley.InvalidArgument, "data", "label %q is not in the set", "weather")
	for _, test := range []struct {
		name    string
		outcome func(int) launch.Outcome
		spoil   func([]float32)
		times   int
		why     string
	}{
		{"crashes twice", func(attempt int) launch.Outcome {
			if attempt < 3 {
				return launch.Outcome{Ending: launch.Crashed, Cause: trainer.Died, Err: secret}
			}
			return launch.Outcome{}
		}, nil, 3, ""},
		{"crashes", func(int) launch.Outcome {
			return launch.Outcome{Ending: launch.Crashed, Cause: trainer.Died, Err: secret}
		}, nil, 3, noTraining},
		{"fails", func(int) launch.Outcome { return launch.Outcome{Ending: launch.Failed, Err: secret} }, nil, 1, noTraining},
		{"starves", func(int) launch.Outcome {
			return launch.Outcome{Ending: launch.Crashed, Cause: trainer.OutOfMemory, Err: secret}
		}, nil, 1, noMemory},
		{"explodes", nil, func(v []float32) { v[0] = float32(infinite()) }, 1, noTraining},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCoordinator(t, nil)
			a := newSide(t, c, "harbour")
			a.double.outcome, a.double.spoil = test.outcome, test.spoil
			a.serve(nil)
			c.offer("harbour", c.honest("harbour", 1, 1))
			if test.why == "" {
				c.waitFor("an update", func() bool { return len(c.headers) == 1 })
			} else {
				c.waitFor("a refusal", func() bool { return len(c.declined) == 1 })
				if why := c.declined[0].GetWhy(); why != test.why || leaks(why) != "" {
					t.Errorf("told %q", why)
				}
				if sent := a.sent(SentDecline); len(sent) != 1 || sent[0].Why != test.why {
					t.Errorf("%+v", sent)
				}
			}
			if n := len(a.double.seen()); n != test.times {
				t.Errorf("trained %d times", n)
			}
		})
	}
}

func infinite() float64 { zero := 0.0; return 1 / zero }

// Long updates are shortened to what both sides agreed on.
func TestClipped(t *testing.T) {
	c := newCoordinator(t, nil)
	a := newSide(t, c, "harbour", "clip: 5", "clip: 0.25")
	a.double.spoil = func(v []float32) { v[0] += 3 }
	a.serve(nil)
	o := c.honest("harbour", 1, 1)
	o.Agreement = string(a.membershipDigest())
	o.Clip = 1
	c.offer("harbour", o)
	c.waitFor("an update", func() bool { return len(c.headers) == 1 })
	f, err := os.Open(filepath.Join(a.dir, updateFolder, a.files(updateFolder)[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	finding, err := federation.Inspect(f, c.layout)
	if err != nil || finding.Norm > 0.2501 || finding.Norm < 0.2499 {
		t.Errorf("%+v, %v", finding, err)
	}
}

func (s *side) membershipDigest() galley.Digest {
	m, err := (&home{dir: s.dir}).membership()
	if err != nil {
		s.t.Fatal(err)
	}
	return m.Agreement
}

// --once ends after a round, and the clock of the partner's being an hour off
// changes nothing.
func TestOnceAnHourOff(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		c := newCoordinator(t, nil)
		a, b := newSide(t, c, "harbour"), newSide(t, c, "valley")
		for _, s := range []*side{a, b} {
			s.now = func() time.Time { return time.Now().Add(off) }
		}
		b.serve(nil)
		ended := make(chan error, 1)
		o := a.options()
		o.Rounds = 1
		go func() { ended <- Serve(t.Context(), o) }()
		c.waitFor("both attending", func() bool { return len(c.attending) == 2 })
		c.tick()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		c.waitFor("a closed round", func() bool { return c.f.Closed == 1 })
	}
}

func TestExpiredAgreement(t *testing.T) {
	c := newCoordinator(t, nil)
	a := newSide(t, c, "harbour")
	var ahead atomic.Int64 // of the partner's clock, in years
	a.now = func() time.Time { return time.Now().AddDate(int(ahead.Load()), 0, 0) }
	a.double.hold = make(chan struct{})
	stop := a.serve(nil)
	c.offer("harbour", c.honest("harbour", 1, 1))
	eventually(t, func() bool { return len(a.double.seen()) == 1 }, a.log.String)
	ahead.Store(10) // it ends while the round is trained
	close(a.double.hold)
	c.waitFor("a refusal", func() bool { return len(c.declined) == 1 })
	if why := c.declined[0].GetWhy(); !strings.Contains(why, "agreement.expires: has ended") || len(a.ledger().Answers) > 0 {
		t.Error(why)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := Serve(t.Context(), a.options()); galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), "has ended") {
		t.Error(err)
	}
	if err := a.join(); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Errorf("joined with an agreement that has ended: %v", err)
	}
}

// Weights that stop half-way are fetched from there on.
func TestWeightsGoOn(t *testing.T) {
	c := newCoordinator(t, nil)
	a := newSide(t, c, "harbour")
	var offsets []int64
	c.weights = func(r *federationpb.FetchWeightsRequest, stream grpc.ServerStreamingServer[federationpb.WeightsChunk]) error {
		c.mu.Lock()
		offsets = append(offsets, r.GetOffset())
		data := c.shelf[galley.Digest(r.GetDigest())]
		c.mu.Unlock()
		if r.GetOffset() == 0 {
			if err := sendWeights(stream, data, 0, 2000); err != nil {
				return err
			}
			return status.Error(codes.Unavailable, "the network is gone")
		}
		return sendWeights(stream, data, r.GetOffset(), int64(len(data)))
	}
	a.serve(nil)
	c.offer("harbour", c.honest("harbour", 1, 1))
	c.waitFor("an update", func() bool { return len(c.headers) == 1 })
	if len(offsets) != 2 || offsets[1] != 2000 {
		t.Errorf("%v", offsets)
	}
}

// The agent hears of the end of a run, also when it was away, and says so.
func TestRunEnds(t *testing.T) {
	c := newCoordinator(t, nil)
	a := newSide(t, c, "harbour")
	stop := a.serve(nil)
	c.offer("harbour", c.honest("harbour", 1, 1))
	eventually(t, func() bool { return len(a.sent(GotAnswer)) == 1 }, a.log.String)
	last := func() LastRun {
		s, err := ReadStatus(a.dir)
		if err != nil {
			t.Fatal(err)
		}
		return s.Last
	}
	if l := last(); l.Run != "job-1" || l.Answered != 1 || l.Outcome != "" {
		t.Errorf("%+v", l)
	}
	c.offer("harbour", &federationpb.Offer{Federation: "headlines", Run: "job-1", Ended: "exploded\n"})
	a.log.has(t, "was not understood")
	c.offer("harbour", &federationpb.Offer{Federation: "headlines", Run: "job-1", Ended: "failed"})
	eventually(t, func() bool { return last().Outcome == "failed" }, a.log.String)
	a.log.has(t, "the run has ended")
	// It is taken up again.
	c.offer("harbour", c.honest("harbour", 2, 1))
	eventually(t, func() bool { l := last(); return l.Answered == 2 && l.Outcome == "" }, a.log.String)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	a.serve(nil)
	c.waitFor("the question", func() bool { return len(c.asks) == 2 })
	first, second := c.asks[0], c.asks[1]
	if !first.GetEnds() || first.GetRun() != "" || !second.GetEnds() || second.GetRun() != "job-1" {
		t.Errorf("%v, %v", first, second)
	}
}

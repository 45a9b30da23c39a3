package partner

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"galley/dataset"
	"galley/federation"
)

// agentVariable makes the test binary an agent: its home, its rows, and a
// number that no two processes have, by which its trainings differ.
const agentVariable = "GALLEY_TEST_PARTNER_AGENT"

func TestMain(m *testing.M) {
	if set := filepath.SplitList(os.Getenv(agentVariable)); len(set) == 3 {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		life := float32(len(set[2]))
		// Each life would train another update: that of an attempt must come from
		// one life alone.
		double := &trainingDouble{spoil: func(v []float32) { v[0] += life / 1000 }}
		err := Serve(ctx, Options{
			Home: set[0], Rows: Rows{Train: set[1], Format: dataset.CSV, Seed: 1}, Launcher: double, Version: "test", Pause: time.Millisecond,
			Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		})
		if err != nil {
			slog.Error("the agent", "error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// spawn starts a partner's agent in a process of its own.
func (s *side) spawn(life int) *exec.Cmd {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	c := exec.Command(self)
	number := make([]byte, life)
	for i := range number {
		number[i] = 'x'
	}
	c.Env = append(os.Environ(), agentVariable+"="+s.dir+string(filepath.ListSeparator)+s.rows+string(filepath.ListSeparator)+string(number))
	c.Stderr = s.log
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// kills is how often an agent is killed, in so many rounds.
const (
	kills  = 15
	rounds = 8
)

// An agent that is killed at any moment, again and again, sends one update for
// an attempt, and the rounds go on.
func TestKilledAgent(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for several seconds")
	}
	c := newCoordinator(t, func(terms *federation.Terms) { terms.Rounds = rounds })
	a, b := newSide(t, c, "harbour"), newSide(t, c, "valley")
	b.serve(nil)
	r := rand.New(rand.NewPCG(1, 2))
	for life := 1; life <= kills; life++ {
		agent := a.spawn(life)
		// Most of its life is its start; what is written is written after that.
		begun := time.Now()
		for attending := false; !attending && time.Since(begun) < 10*time.Second; time.Sleep(time.Millisecond) {
			attending = stateOf(c, func() bool { return c.attending["harbour"] != nil })
		}
		c.tick()
		time.Sleep(time.Duration(r.IntN(120)) * time.Millisecond)
		if err := agent.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = agent.Wait()
		c.waitFor("the end of the connection", func() bool { return c.attending["harbour"] == nil })
	}
	last := a.spawn(kills + 1)
	c.tick()
	c.waitFor("all rounds", func() bool {
		if c.f.Round == nil && len(c.attending) == 2 {
			go c.tick()
		}
		return c.f.Closed == rounds
	})
	c.waitFor("attending", func() bool { return c.attending["harbour"] != nil }) // it listens to signals
	eventually(t, func() bool { return a.answered() == rounds }, a.log.String)
	if err := errors.Join(last.Process.Signal(syscall.SIGTERM), last.Wait()); err != nil {
		t.Errorf("%v\n%s", err, a.log.String())
	}
	type attempt struct{ round, number int }
	answers, written := map[attempt]string{}, map[string]bool{}
	for _, s := range a.sent(SentUpdate) {
		written[string(s.Digest)] = true
	}
	for _, h := range c.headers {
		if h.Partner != "harbour" {
			continue
		}
		at := attempt{h.Round, h.Attempt}
		if before, again := answers[at]; again && before != string(h.Update) {
			t.Errorf("two updates came for round %d, attempt %d", h.Round, h.Attempt)
		}
		if answers[at] = string(h.Update); !written[string(h.Update)] {
			t.Errorf("%s left, and is not in the record", h.Update.Short())
		}
	}
	for i, v := range c.verdicts {
		if !v.OK() {
			t.Errorf("%s of %s: %s", v.Reason, c.headers[i].Partner, v.Message)
		}
	}
}

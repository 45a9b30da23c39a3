package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	controlpb "galley/api/control/v1"
	newsroompb "galley/api/newsroom/v1"
)

// experimentVariable says how long the experiment takes; make test-experiment
// sets it.
const experimentVariable = "GALLEY_EXPERIMENT"

// experimentRate is requests a second, each with an outcome.
const experimentRate = 500

// A readership asks a server that is killed, and says what became of the
// answers until that is acknowledged.
type readership struct {
	*testing.T
	client atomic.Pointer[client] // of the server that is there

	mu       sync.Mutex
	versions map[string]string // that answered, by reader
	outcomes map[string]int64  // acknowledged, by version
	good     map[string]int64  // of these
	asked    int64
	repeated int64 // outcomes that were stored already when they were sent
}

// Under 500 requests a second, with the server killed and started again in the
// middle, each reader is answered by the same arm, and each outcome that was
// acknowledged counts once.
func TestExperimentSurvivesAKill(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a server under load for seconds")
	}
	long := 4 * time.Second
	if asked := os.Getenv(experimentVariable); asked != "" {
		var err error
		if long, err = time.ParseDuration(asked); err != nil {
			t.Fatal(err)
		}
	}
	h := &trainedHome{t: t, runtime: runtimePath(t)}
	if h.runtime == "" {
		t.Skip("ONNX Runtime is not here")
	}
	if h.make(); h.err != nil {
		t.Fatal(h.err)
	}
	home := filepath.Join(h.dir, "home")
	s := spawnServer(t, home, h.runtime)
	r := &readership{T: t, versions: map[string]string{}, outcomes: map[string]int64{}, good: map[string]int64{}}
	r.reach(s)
	s.ask(t, "ab", "start", "test", "--control", "news@1", "--treatment", "news@2", "--split", "70/30", "--metric", "click", "--no-guardrails")

	var readers sync.WaitGroup
	begun, killed := time.Now(), false
	for i := 0; time.Since(begun) < long; i++ {
		if !killed && time.Since(begun) > long/2 {
			killed = true
			if err := s.process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-s.ended
			s = spawnServer(t, home, h.runtime)
			r.reach(s)
		}
		// Who would have come while there was no server comes now.
		time.Sleep(time.Until(begun.Add(time.Duration(i) * time.Second / experimentRate)))
		readers.Go(func() { r.read(i) })
	}
	readers.Wait()
	defer s.drain(t)
	e, err := r.client.Load().experiments.GetExperiment(t.Context(), &controlpb.ExperimentRequest{Experiment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	for _, arm := range e.GetArms() {
		n := r.outcomes[arm.GetRef()]
		want := float64(r.good[arm.GetRef()]) / float64(n)
		if arm.GetN() != n || n == 0 || arm.GetMetric() < want-1e-9 || arm.GetMetric() > want+1e-9 {
			t.Errorf("%s has %d outcomes with mean %g; %d with mean %g were acknowledged", arm.GetRef(), arm.GetN(), arm.GetMetric(), n, want)
		}
	}
	if e.GetSampleRatioMismatch() {
		t.Errorf("%v", e.GetWarnings())
	}
	t.Logf("%d requests in %s, %d readers, outcomes %v, of which %d were stored when they were sent again",
		r.asked, time.Since(begun).Round(time.Millisecond), len(r.versions), r.outcomes, r.repeated)
}

// reach turns to a server.
func (r *readership) reach(s *server) {
	c, err := dial(s.address, nil, nil)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(c.close)
	r.client.Store(c)
}

// persist repeats a call that a kill may cut off.
func (r *readership) persist(call func(context.Context, *client) error) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := call(ctx, r.client.Load())
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.Errorf("%v", err)
			return
		}
	}
}

// read asks as a reader, and sends an outcome: late, some twice, and some a
// wrong one first.
func (r *readership) read(i int) {
	reader := fmt.Sprint("reader-", i%997)
	var answer *newsroompb.ClassifyResponse
	r.persist(func(ctx context.Context, c *client) (err error) {
		answer, err = c.newsroom.Classify(ctx, &newsroompb.ClassifyRequest{Model: "news", Text: "a late goal", RequestKey: reader})
		return err
	})
	good := i%3 == 0
	sent := []bool{good}
	switch i % 10 {
	case 1:
		sent = []bool{good, good}
	case 2:
		sent = []bool{!good, good}
	}
	time.Sleep(time.Duration(i%50) * time.Millisecond)
	for _, outcome := range sent {
		r.persist(func(ctx context.Context, c *client) error {
			f, err := c.newsroom.Feedback(ctx, &newsroompb.FeedbackRequest{PredictionId: answer.GetPredictionId(), Outcome: structpb.NewBoolValue(outcome)})
			if f.GetState() == "unchanged" {
				r.mu.Lock()
				r.repeated++
				r.mu.Unlock()
			}
			return err
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if was := r.versions[reader]; was != "" && was != answer.GetModel() {
		r.Errorf("%s was answered by %s, then by %s", reader, was, answer.GetModel())
	}
	r.versions[reader] = answer.GetModel()
	r.outcomes[answer.GetModel()]++
	if good {
		r.good[answer.GetModel()]++
	}
}

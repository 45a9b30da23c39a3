package control

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"galley"
	"galley/experiment"
	"galley/internal/blob"
	"galley/internal/store"
	"galley/internal/store/storetest"
)

// A lab is a world with versions 1 and 2 of news, and what serving is told of
// where their requests go.
type lab struct {
	*world
	route atomic.Pointer[experiment.Route]
}

func newLab(t *testing.T) *lab { return newLabWith(t, nil) }

// newLabWith is a lab whose experiment is changed before it begins.
func newLabWith(t *testing.T, change func(*ExperimentStart)) *lab {
	t.Helper()
	l := &lab{}
	var err error
	l.world, err = openWith(t.TempDir(), noOpener{}, 1, blob.Options{}, func(o *Options) {
		o.Traffic.Route = func(_ string, r *experiment.Route) { l.route.Store(r) }
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.stop)
	l.begin(t, change)
	return l
}

// begin registers both versions and starts the experiment test, changed if that
// is wanted.
func (l *lab) begin(t *testing.T, change func(*ExperimentStart)) {
	t.Helper()
	for seed := range 2 {
		if _, _, err := l.store.Register(t.Context(), storetest.Version("news", seed)); err != nil {
			t.Fatal(err)
		}
	}
	s := ExperimentStart{
		Name: "test", Control: galley.Ref{Name: "news", Version: 1}, Treatment: galley.Ref{Name: "news", Version: 2}, Split: "50/50", Metric: "click",
	}
	if change != nil {
		change(&s)
	}
	if _, err := l.StartExperiment(t.Context(), "ann", s); err != nil {
		t.Fatal(err)
	}
}

// answer is a prediction of one of the arms.
func (l *lab) answer(key string) experiment.Prediction {
	r := l.route.Load()
	a := r.Assign(key, experiment.Nonce())
	return experiment.Prediction{
		Experiment: r.Experiment, Stage: r.Number, Arm: a.Arm, Version: uint32(r.Versions[a.Arm]), Model: experiment.HashModel("news"),
		At: time.Now(), Place: a.Place, Nonce: experiment.Nonce(),
	}
}

// TestAGuardrailNeedsNoStore: requests leave a treatment that breaks a
// guardrail also while the database cannot be written.
func TestAGuardrailNeedsNoStore(t *testing.T) {
	l := newLab(t)
	r := l.route.Load()
	if err := l.store.Close(); err != nil {
		t.Fatal(err)
	}
	for range experiment.DefaultMinimum {
		r.Meters[experiment.Treatment].Observe(time.Now(), time.Millisecond, true, false)
	}
	began := time.Now()
	for l.route.Load().Live() {
		if time.Since(began) > 2*time.Second {
			t.Fatal("the treatment has its requests after two seconds")
		}
		time.Sleep(time.Millisecond)
	}
	if held := l.route.Load(); held.Versions[experiment.Control] != 1 {
		t.Errorf("%+v", held)
	}
}

// TestOutcomesAtOnce: those that come at once are all stored, and each counts
// once.
func TestOutcomesAtOnce(t *testing.T) {
	l := newLab(t)
	const predictions = 200
	var ids [predictions]string
	n := [2]float64{}
	for i := range ids {
		p := l.answer(fmt.Sprint("reader-", i))
		n[p.Arm]++
		ids[i] = l.Signer().Sign(p)
	}
	var first atomic.Int64
	var senders sync.WaitGroup
	for i := range 2 * predictions {
		senders.Go(func() {
			f, err := l.Feedback(t.Context(), ids[i%predictions], "true")
			if err != nil || f.Experiment != "test" {
				t.Errorf("%+v, %v", f, err)
			}
			if f.State == store.OutcomeRecorded {
				first.Add(1)
			}
		})
	}
	senders.Wait()
	if first.Load() != predictions {
		t.Errorf("%d were recorded first", first.Load())
	}
	e, err := l.Experiment(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, arm := range experiment.Arms {
		if want := (experiment.Tally{N: n[arm], Sum: n[arm]}); e.Arms[arm].Outcomes != want || e.Arms[arm].Keys != want {
			t.Errorf("%s has %+v, not %+v", arm, e.Arms[arm].Totals, want)
		}
	}
}

// TestOutcomesOfAnotherHome: ids of other homes, and of experiments that a
// restore took away, are not found.
func TestOutcomesOfAnotherHome(t *testing.T) {
	l := newLab(t)
	p := l.answer("reader")
	other := experiment.NewSigner(experiment.NewKey()).Sign(p)
	p.Experiment = 99
	for name, id := range map[string]string{"another home's": other, "a later one's": l.Signer().Sign(p)} {
		if _, err := l.Feedback(t.Context(), id, "true"); galley.CodeOf(err) != galley.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestArmsThatAreNoPair: what cannot be an arm is named by its arm, and two
// models are no experiment.
func TestArmsThatAreNoPair(t *testing.T) {
	l := newLab(t)
	if _, err := l.StopExperiment(t.Context(), "ann", "test", "done"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.store.Register(t.Context(), storetest.Version("sports", 0)); err != nil {
		t.Fatal(err)
	}
	news, sports := galley.Ref{Name: "news", Version: 1}, galley.Ref{Name: "sports", Version: 1}
	for want, s := range map[string]ExperimentStart{
		"two: news@1 and sports@1 are of different models, and requests name one — register the treatment as a version of news: export it, then galley models import FILE --name news": {Control: news, Treatment: sports},
		"control: wires@1: there is no such model — ":                               {Control: galley.Ref{Name: "wires", Version: 1}, Treatment: news},
		"treatment: news@7: there is no such version; the newest is news@2":         {Control: news, Treatment: galley.Ref{Name: "news", Version: 7}},
		"treatment: news:prod: ":                                                    {Control: news, Treatment: galley.Ref{Name: "news", Alias: "prod"}},
		"two: control and treatment are both news@1 — compare two versions of news": {Control: news, Treatment: news},
	} {
		s.Name, s.Split, s.Metric = "two", "50/50", "click"
		if _, err := l.StartExperiment(t.Context(), "ann", s); err == nil || !strings.HasPrefix(err.Error(), want) || galley.AsError(err).Remedy == "" {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

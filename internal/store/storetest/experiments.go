package storetest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"galley"
	"galley/experiment"
	"galley/internal/audit"
	"galley/internal/store"
	"galley/registry"
)

// anExperiment returns one on versions 1 and 2 of a model.
func anExperiment(name, model string) experiment.Experiment {
	return experiment.Experiment{
		Name: name, Model: model, Versions: [2]int{1, 2}, Stages: []experiment.Stage{{Treatment: 1000, Since: noon}}, Metric: "click",
		Unit: experiment.PerOutcome, Guards: experiment.DefaultGuards(), Salt: make([]byte, experiment.SaltSize), State: experiment.Running,
		Owner: "editor", Created: noon, Updated: noon,
	}
}

func startExperiment(t *testing.T, s Store, name, model string) experiment.Experiment {
	t.Helper()
	return must[experiment.Experiment](t)(s.CreateExperiment(t.Context(), anExperiment(name, model), by("experiment.start")))
}

// step lets an event happen to an experiment.
func step(s Store, name string, event experiment.Event, promote *registry.Request) (experiment.Experiment, *registry.Change, error) {
	return s.ChangeExperiment(context.Background(), name, func(r store.ExperimentRecord) (store.ExperimentChange, error) {
		after, _, err := experiment.Step(r.Experiment, event)
		return store.ExperimentChange{Experiment: after, Promote: promote, Commit: by("experiment.step")}, err
	})
}

func lastEntry(t *testing.T, s Store) audit.Entry {
	t.Helper()
	entries := must[[]audit.Entry](t)(s.Audit(t.Context(), store.AuditQuery{Newest: true, Limit: 1}))
	return entries[len(entries)-1]
}

func testExperiments(t *testing.T, s Store) {
	ctx := t.Context()
	for seed := range 3 {
		register(t, s, Version("news", seed))
	}
	e := startExperiment(t, s, "first", "news")
	if e.ID == 0 || e.Generation != 1 {
		t.Errorf("%+v", e)
	}
	if entry := lastEntry(t, s); entry.Action != "experiment.start" || entry.Subject != "first" {
		t.Errorf("%+v", entry)
	}
	got := must[store.ExperimentRecord](t)(s.Experiment(ctx, "first"))
	wantEqual(t, "experiment", got.Experiment, e)
	if len(got.Totals) != 1 || got.Totals[0] != [2]experiment.Totals{} {
		t.Errorf("%+v", got.Totals)
	}
	if name := must[string](t)(s.ExperimentName(ctx, uint32(e.ID))); name != "first" {
		t.Error(name)
	}
	_, err := s.ExperimentName(ctx, 99)
	wantCode(t, err, galley.NotFound)
	_, err = s.Experiment(ctx, "none")
	wantCode(t, err, galley.NotFound)

	for message, change := range map[string]func(*experiment.Experiment){
		"there is such an experiment already":             func(e *experiment.Experiment) { e.Name = "first" },
		"the experiment first runs on this model already": func(*experiment.Experiment) {},
		"there is no such version":                        func(e *experiment.Experiment) { e.Versions[1] = 9 },
		"control and treatment are both news@1":           func(e *experiment.Experiment) { e.Versions[1] = 1 },
	} {
		other := anExperiment("second", "news")
		change(&other)
		_, err := s.CreateExperiment(ctx, other, by("experiment.start"))
		if err == nil || galley.AsError(err).Message != message || galley.AsError(err).Remedy == "" {
			t.Errorf("%q: %v", message, err)
		}
	}
	must[registry.Version](t)(s.DeleteVersion(ctx, "news", 3, stamp))
	deleted := anExperiment("second", "news")
	deleted.Versions[1] = 3
	if _, err := s.CreateExperiment(ctx, deleted, by("experiment.start")); err == nil || galley.AsError(err).Message != "was deleted" {
		t.Errorf("%v", err)
	}
	for number := 1; number <= 2; number++ {
		_, err := s.DeleteVersion(ctx, "news", number, stamp)
		wantCode(t, err, galley.FailedPrecondition)
	}

	// What fails changes nothing.
	_, _, err = step(s, "first", experiment.Resplit{At: noon}, nil)
	wantCode(t, err, galley.InvalidArgument)
	changed, _, err := step(s, "first", experiment.Resplit{At: noon, Treatment: 5000}, nil)
	if err != nil || changed.Generation != 2 || len(changed.Stages) != 2 {
		t.Errorf("%+v, %v", changed, err)
	}
	treatment := experiment.Treatment
	promote := request("news", registry.Prod, 2)
	decided := experiment.Judged{At: noon, Winner: &treatment, Reason: "it is time"}
	after, moved, err := step(s, "first", decided, &promote)
	if err != nil || after.State != experiment.Decided || moved == nil || moved.To != 2 || moved.Generation != 1 {
		t.Errorf("%+v, %+v, %v", after, moved, err)
	}
	if m := must[registry.Model](t)(s.Model(ctx, "news")); m.Aliases[0].Target != 2 {
		t.Errorf("%+v", m)
	}
	_, _, err = step(s, "first", experiment.Ended{At: noon}, nil)
	wantCode(t, err, galley.FailedPrecondition)
	startExperiment(t, s, "second", "news")
	list := must[[]store.ExperimentRecord](t)(s.Experiments(ctx, 10))
	if len(list) != 2 || list[0].Name != "second" || list[1].State != experiment.Decided {
		t.Errorf("%+v", list)
	}
}

// testExperimentRouting: what runs decides where traffic goes, and what was
// rolled back until the alias moves.
func testExperimentRouting(t *testing.T, s Store) {
	ctx := t.Context()
	for seed := range 3 {
		register(t, s, Version("news", seed))
		register(t, s, Version("sports", seed))
	}
	promote(t, s, "news", registry.Prod, 3)
	routed := func(model string, want ...string) {
		t.Helper()
		got := must[[]experiment.Experiment](t)(s.Routing(ctx, model))
		names := []string{}
		for _, e := range got {
			names = append(names, e.Name)
		}
		if fmt.Sprint(names) != fmt.Sprint(want) {
			t.Errorf("traffic of %q follows %v, not %v", model, names, want)
		}
	}
	routed("")
	startExperiment(t, s, "a", "news")
	startExperiment(t, s, "b", "sports")
	routed("", "a", "b")
	routed("sports", "b")
	breach := experiment.Breached{Breach: experiment.Breach{At: noon}, Prod: 1}
	if _, _, err := step(s, "a", breach, nil); err != nil {
		t.Fatal(err)
	}
	routed("news", "a")
	_, err := s.DeleteVersion(ctx, "news", 1, stamp)
	wantCode(t, err, galley.FailedPrecondition)
	if message := galley.AsError(err).Message; !strings.Contains(message, "traffic goes to it since the end of the experiment a") {
		t.Error(message)
	}
	promote(t, s, "news", registry.Prod, 2)
	routed("news")
	if _, _, err := step(s, "b", experiment.Ended{At: noon}, nil); err != nil {
		t.Fatal(err)
	}
	routed("")
	must[registry.Version](t)(s.DeleteVersion(ctx, "news", 1, stamp))
}

func testOutcomes(t *testing.T, s Store) {
	ctx := t.Context()
	for seed := range 2 {
		register(t, s, Version("news", seed))
	}
	e := startExperiment(t, s, "first", "news")
	prediction := func(nonce, place uint64, arm experiment.Arm) experiment.Prediction {
		return experiment.Prediction{Experiment: uint32(e.ID), Arm: arm, Version: 1, At: noon, Place: place, Nonce: nonce}
	}
	record := func(want store.OutcomeState, p experiment.Prediction, micros int64) {
		t.Helper()
		o := store.Outcome{Prediction: p, Text: fmt.Sprint(micros), Micros: micros, At: noon}
		if got := must[[]store.OutcomeState](t)(s.RecordOutcomes(ctx, []store.Outcome{o})); got[0] != want {
			t.Errorf("%+v: %s, not %s", o, got[0], want)
		}
	}
	record(store.OutcomeRecorded, prediction(1, 1<<63, experiment.Treatment), 0)
	record(store.OutcomeRecorded, prediction(2, 5, experiment.Control), 1_000_000)
	record(store.OutcomeRecorded, prediction(3, 5, experiment.Control), 500_000)
	record(store.OutcomeUnchanged, prediction(2, 5, experiment.Control), 1_000_000)
	record(store.OutcomeCorrected, prediction(1, 1<<63, experiment.Treatment), 1_000_000)
	record(store.OutcomeCorrected, prediction(3, 5, experiment.Control), 250_000)
	outside := prediction(1, 5, experiment.Control)
	outside.Experiment = 0
	record(store.OutcomeRecorded, outside, 0)
	counts := store.ExperimentCounts{Experiment: uint32(e.ID), Arm: experiment.Treatment, Counts: experiment.Counts{Requests: 7, Errors: 2, Empty: 1}}
	for range 2 {
		if err := s.CountAnswers(ctx, []store.ExperimentCounts{counts}); err != nil {
			t.Fatal(err)
		}
	}
	got := must[store.ExperimentRecord](t)(s.Experiment(ctx, "first"))
	wantEqual(t, "totals", got.Totals, [][2]experiment.Totals{{
		{Outcomes: experiment.Tally{N: 2, Sum: 1.25}, Keys: experiment.Tally{N: 1, Sum: 1}},
		{Counts: experiment.Counts{Requests: 14, Errors: 4, Empty: 2}, Outcomes: experiment.Tally{N: 1, Sum: 1}, Keys: experiment.Tally{N: 1, Sum: 1}},
	}})
	// One that cannot be recorded takes its batch with it.
	bad := prediction(9, 9, experiment.Control)
	bad.Experiment = 99
	_, err := s.RecordOutcomes(ctx, []store.Outcome{{Prediction: prediction(8, 8, experiment.Control), Text: "1", At: noon}, {Prediction: bad, Text: "1", At: noon}})
	wantCode(t, err, galley.FailedPrecondition)
	wantEqual(t, "totals", must[store.ExperimentRecord](t)(s.Experiment(ctx, "first")).Totals, got.Totals)

	key := must[[]byte](t)(s.PredictionKey(ctx))
	if len(key) != experiment.KeySize || string(must[[]byte](t)(s.PredictionKey(ctx))) != string(key) {
		t.Errorf("the key is %x", key)
	}
}

// testConcurrentOutcomes: outcomes that are sent several times at once count
// once.
func testConcurrentOutcomes(t *testing.T, s Store) {
	for seed := range 2 {
		register(t, s, Version("news", seed))
	}
	e := startExperiment(t, s, "first", "news")
	const each, senders = 20, 4
	var sending sync.WaitGroup
	for range senders {
		sending.Go(func() {
			for i := range uint64(each) {
				p := experiment.Prediction{Experiment: uint32(e.ID), Arm: experiment.Arm(i % 2), Version: 1, At: noon.Add(time.Duration(i) * time.Second), Place: i, Nonce: i}
				if _, err := s.RecordOutcomes(context.Background(), []store.Outcome{{Prediction: p, Text: "1", Micros: store.Micros, At: noon}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	sending.Wait()
	got := must[store.ExperimentRecord](t)(s.Experiment(t.Context(), "first")).Totals[0]
	for _, arm := range got {
		wantEqual(t, "outcomes", arm.Outcomes, experiment.Tally{N: each / 2, Sum: each / 2})
	}
}

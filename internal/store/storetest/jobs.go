package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"galley"
	"galley/internal/store"
	"galley/trainer"
)

func testDatasets(t *testing.T, s Store) {
	ctx := t.Context()
	first, created, err := s.AddDataset(ctx, Manifest("headlines", 1), by("dataset.add"))
	if err != nil || !created || first.Version != 1 || first.Ref() != "headlines@1" {
		t.Fatalf("%+v, created %v, %v", first, created, err)
	}
	if again, created, err := s.AddDataset(ctx, Manifest("headlines", 1), by("dataset.add")); err != nil || created || again.Version != 1 {
		t.Errorf("again: %+v, created %v, %v", again, created, err)
	}
	second, _, err := s.AddDataset(ctx, Manifest("headlines", 2), by("dataset.add"))
	if err != nil || second.Version != 2 {
		t.Errorf("%+v, %v", second, err)
	}
	if _, _, err := s.AddDataset(ctx, Manifest("archive", 3), by("dataset.add")); err != nil {
		t.Error(err)
	}
	for text, version := range map[string]int{"headlines": 2, "headlines@1": 1, string(first.Digest): 1} {
		ref := must[galley.Ref](t)(galley.ParseRef(text))
		d := must[store.Dataset](t)(s.Dataset(ctx, ref))
		if d.Version != version || !d.Created.Equal(noon) {
			t.Errorf("%s is %s of %s", text, d.Ref(), d.Created)
		}
		want := must[[]byte](t)(Manifest("headlines", uint64(version)).Encode())
		wantEqual(t, "manifest", string(must[[]byte](t)(d.Manifest.Encode())), string(want))
	}
	for text, code := range map[string]galley.Code{
		"absent": galley.NotFound, "headlines@3": galley.NotFound, "headlines:prod": galley.InvalidArgument, string(Digest()): galley.NotFound,
	} {
		_, err := s.Dataset(ctx, must[galley.Ref](t)(galley.ParseRef(text)))
		wantCode(t, err, code)
	}
	var names []string
	for _, d := range must[[]store.Dataset](t)(s.Datasets(ctx, "", 10)) {
		names = append(names, d.Ref())
	}
	wantEqual(t, "list", names, []string{"archive@1", "headlines@1", "headlines@2"})
	if rest := must[[]store.Dataset](t)(s.Datasets(ctx, "archive", 1)); len(rest) != 1 || rest[0].Ref() != "headlines@1" {
		t.Errorf("rest %v", rest)
	}
	broken := Manifest("headlines", 4)
	broken.Splits = nil
	_, _, err = s.AddDataset(ctx, broken, by("dataset.add"))
	wantCode(t, err, galley.InvalidArgument)
}

func testJobs(t *testing.T, s Store) {
	ctx := t.Context()
	for i := range 5 {
		j := Job(fmt.Sprint("job-", i))
		if i%2 == 1 {
			j.Phase = trainer.Running
		}
		if i >= 3 {
			j.SpecDigest = galley.DigestBytes([]byte("another spec"))
		}
		if j = must[trainer.Job](t)(s.CreateJob(ctx, j, by("job.submit"))); j.Generation != 1 {
			t.Errorf("generation %d", j.Generation)
		}
	}
	_, err := s.CreateJob(ctx, Job("job-3"), by("job.submit"))
	wantCode(t, err, galley.AlreadyExists)
	_, err = s.Job(ctx, "absent")
	wantCode(t, err, galley.NotFound)
	for _, id := range []string{"", strings.Repeat("x", 200)} {
		_, err = s.CreateJob(ctx, Job(id), by("job.submit"))
		wantCode(t, err, galley.InvalidArgument)
	}
	for _, tt := range []struct {
		q    store.JobQuery
		want string
	}{
		{store.JobQuery{}, "job-4 job-3 job-2 job-1 job-0"},
		{store.JobQuery{Limit: 2}, "job-4 job-3"},
		{store.JobQuery{Limit: 2, Before: "job-3"}, "job-2 job-1"},
		{store.JobQuery{Phases: []trainer.Phase{trainer.Running}}, "job-3 job-1"},
		{store.JobQuery{Phases: []trainer.Phase{trainer.Running, trainer.Queued}, Limit: 3}, "job-4 job-3 job-2"},
		{store.JobQuery{Phases: []trainer.Phase{trainer.Failed}}, ""},
		{store.JobQuery{SpecDigest: galley.DigestBytes([]byte("another spec"))}, "job-4 job-3"},
		{store.JobQuery{SpecDigest: galley.DigestBytes([]byte("another spec")), Phases: []trainer.Phase{trainer.Running}, Before: "job-4"}, "job-3"},
		{store.JobQuery{SpecDigest: galley.DigestBytes([]byte("no spec"))}, ""},
	} {
		var ids []string
		for _, j := range must[[]trainer.Job](t)(s.Jobs(ctx, tt.q)) {
			ids = append(ids, j.ID)
		}
		wantEqual(t, fmt.Sprint(tt.q), strings.Join(ids, " "), tt.want)
	}
	for phase, want := range map[trainer.Phase]int{trainer.Queued: 3, trainer.Running: 2, trainer.Failed: 0} {
		if n := must[int](t)(s.CountJobs(ctx, phase)); n != want {
			t.Errorf("%d jobs are %s, not %d", n, phase, want)
		}
	}
}

func testJobConflict(t *testing.T, s Store) {
	ctx := t.Context()
	one := must[trainer.Job](t)(s.CreateJob(ctx, Job("a"), by("job.submit")))
	two := one
	one.Phase = trainer.Running
	one = must[trainer.Job](t)(s.SaveJob(ctx, one, by("")))
	if one.Generation != 2 {
		t.Errorf("generation %d", one.Generation)
	}
	two.Phase = trainer.Cancelled
	_, err := s.SaveJob(ctx, two, store.Commit{Effects: []store.Effect{{Kind: "lost"}}})
	wantCode(t, err, galley.Aborted)
	if got := must[trainer.Job](t)(s.Job(ctx, "a")); got.Phase != trainer.Running || got.Generation != 2 {
		t.Errorf("stored %+v", got)
	}
	if e := must[[]store.Effect](t)(s.PendingEffects(ctx, 10)); len(e) != 0 {
		t.Errorf("effects of a refused save: %v", e)
	}
	_, err = s.SaveJob(ctx, Job("absent"), by(""))
	wantCode(t, err, galley.NotFound)
}

// A job that goes through its steps reads back as it was saved.
func testJobLifecycle(t *testing.T, s Store) {
	ctx := t.Context()
	j := must[trainer.Job](t)(s.CreateJob(ctx, Job("a"), by("job.submit")))
	for _, e := range []trainer.Event{
		trainer.Placed{At: noon},
		trainer.Reported{At: noon, Attempt: 1, Began: true, Progress: trainer.Progress{Step: 0, Steps: 10}},
		trainer.Reported{At: noon, Attempt: 1, Progress: trainer.Progress{Step: 5, Steps: 10, Loss: 1.5}, Checkpoint: 5, Metrics: map[string]float64{"accuracy": .5}},
		trainer.Crashed{At: noon, Attempt: 1, Err: galley.Errorf(galley.Unavailable, "attempt", "killed")},
		trainer.Placed{At: noon.Add(time.Second)},
		trainer.Finished{At: noon.Add(time.Minute), Attempt: 2, Metrics: map[string]float64{"accuracy": .9}},
		trainer.Published{At: noon.Add(time.Hour), Ref: "news@1"},
	} {
		next, _, err := trainer.Step(j, e)
		if err != nil {
			t.Fatal(err)
		}
		j = must[trainer.Job](t)(s.SaveJob(ctx, next, store.Commit{At: noon}))
		got := must[trainer.Job](t)(s.Job(ctx, "a"))
		if got.Phase != j.Phase || got.Generation != j.Generation || len(got.Attempts) != len(j.Attempts) || got.Progress != j.Progress {
			t.Fatalf("after %T:\n got %+v\nwant %+v", e, got, j)
		}
	}
	if j.Phase != trainer.Succeeded || j.Generation != 8 {
		t.Errorf("%s at generation %d", j.Phase, j.Generation)
	}
}

func testLines(t *testing.T, s Store) {
	ctx := t.Context()
	must[trainer.Job](t)(s.CreateJob(ctx, Job("a"), by("")))
	must[trainer.Job](t)(s.CreateJob(ctx, Job("b"), by("")))
	lines := []store.Line{{At: noon, Text: "step 1"}, {At: noon.Add(1), Text: "bad \xff"}, {At: noon, Text: strings.Repeat("x", 2*store.MaxLine)}}
	if err := errors.Join(s.AppendLines(ctx, "a", lines), s.AppendLines(ctx, "b", lines[:1]), s.AppendLines(ctx, "a", nil)); err != nil {
		t.Fatal(err)
	}
	got := must[[]store.Line](t)(s.Lines(ctx, "a", 0, 10))
	if len(got) != 3 || got[0].Number != 1 || got[1].Text != "bad \uFFFD" || !got[1].At.Equal(noon.Add(1)) || len(got[2].Text) != store.MaxLine {
		t.Errorf("%d lines, %+v", len(got), got[:2])
	}
	if got := must[[]store.Line](t)(s.Lines(ctx, "a", 1, 1)); len(got) != 1 || got[0].Number != 2 {
		t.Errorf("after 1: %+v", got)
	}
	wantCode(t, s.AppendLines(ctx, "absent", lines), galley.NotFound)

	many := make([]store.Line, store.MaxLines)
	for i := range many {
		many[i] = store.Line{At: noon, Text: fmt.Sprint(i)}
	}
	if err := s.AppendLines(ctx, "a", many); err != nil {
		t.Fatal(err)
	}
	if got := must[[]store.Line](t)(s.Lines(ctx, "a", 0, 1)); got[0].Number != 4 || got[0].Text != "0" {
		t.Errorf("the oldest line kept is %+v", got[0])
	}
}

func testEffects(t *testing.T, s Store) {
	ctx := t.Context()
	c := by("job.submit")
	c.Effects = []store.Effect{{Kind: "start", Payload: []byte(`{"attempt":1}`)}, {Kind: "note"}}
	j := must[trainer.Job](t)(s.CreateJob(ctx, Job("a"), c))
	c = store.Commit{At: noon, Effects: []store.Effect{{Kind: "stop"}}}
	must[trainer.Job](t)(s.SaveJob(ctx, j, c))

	got := must[[]store.Effect](t)(s.PendingEffects(ctx, 10))
	if len(got) != 3 || got[0].Kind != "start" || got[1].Kind != "note" || got[2].Kind != "stop" || string(got[0].Payload) != `{"attempt":1}` {
		t.Fatalf("pending %+v", got)
	}
	for i, e := range got {
		if e.Aggregate != "job/a" || i > 0 && e.Sequence <= got[i-1].Sequence {
			t.Errorf("effect %+v after %+v", e, got[max(0, i-1)])
		}
	}
	for range 2 { // done twice is done
		if err := s.EffectDone(ctx, got[1].Aggregate, got[1].Sequence); err != nil {
			t.Error(err)
		}
	}
	wantCode(t, s.EffectDone(ctx, "job/a", 1), galley.NotFound)
	if rest := must[[]store.Effect](t)(s.PendingEffects(ctx, 10)); len(rest) != 2 || rest[0].Kind != "start" || rest[1].Kind != "stop" {
		t.Errorf("rest %+v", rest)
	}
}

// Of the effects that are done the last stay, and all that are not.
func testEffectsArePruned(t *testing.T, s Store) {
	if testing.Short() {
		t.Skip("writes 1,400 times to the disk")
	}
	ctx := t.Context()
	c := store.Commit{At: noon, Effects: make([]store.Effect, 200)}
	for i := range c.Effects {
		c.Effects[i].Kind = "e"
	}
	j := must[trainer.Job](t)(s.CreateJob(ctx, Job("a"), c))
	waiting := must[[]store.Effect](t)(s.PendingEffects(ctx, 1))[0]
	last := waiting
	for range 7 {
		for _, e := range must[[]store.Effect](t)(s.PendingEffects(ctx, store.MaxList)) {
			if e.Sequence == waiting.Sequence {
				continue
			}
			if err := s.EffectDone(ctx, e.Aggregate, e.Sequence); err != nil {
				t.Fatal(err)
			}
			last = e
		}
		j = must[trainer.Job](t)(s.SaveJob(ctx, j, c))
	}
	if err := s.EffectDone(ctx, last.Aggregate, last.Sequence); err != nil {
		t.Errorf("an effect that was done lately: %v", err)
	}
	wantCode(t, s.EffectDone(ctx, waiting.Aggregate, waiting.Sequence+1), galley.NotFound) // the oldest that was done
	if pending := must[[]store.Effect](t)(s.PendingEffects(ctx, store.MaxList)); len(pending) != 201 || pending[0].Sequence != waiting.Sequence {
		t.Errorf("%d effects are pending, the first is %+v", len(pending), pending[0])
	}
}

// Of saves that expect the same generation one wins; the others are told.
func testConcurrentSaves(t *testing.T, s Store) {
	ctx := t.Context()
	must[trainer.Job](t)(s.CreateJob(ctx, Job("a"), by("")))
	const workers, rounds = 6, 10
	var won atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				j, err := s.Job(ctx, "a")
				if err == nil {
					j.Progress.Step++
					_, err = s.SaveJob(ctx, j, store.Commit{At: noon, Effects: []store.Effect{{Kind: "e"}}})
				}
				switch galley.CodeOf(err) {
				case "":
					won.Add(1)
				case galley.Aborted:
				default:
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	j := must[trainer.Job](t)(s.Job(ctx, "a"))
	effects := must[[]store.Effect](t)(s.PendingEffects(ctx, store.MaxList))
	if n := won.Load(); j.Generation != 1+n || int64(j.Progress.Step) != n || int64(len(effects)) != n {
		t.Errorf("%d saves won, generation %d, step %d, %d effects", n, j.Generation, j.Progress.Step, len(effects))
	}
}

func testCanceledContext(t *testing.T, s Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.CreateJob(ctx, Job("a"), by(""))
	wantCode(t, err, galley.Canceled)
	_, err = s.Jobs(ctx, store.JobQuery{})
	wantCode(t, err, galley.Canceled)
	_, err = s.Job(t.Context(), "a")
	wantCode(t, err, galley.NotFound)
}

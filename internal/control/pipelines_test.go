package control

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"galley"
	"galley/evals"
	"galley/internal/auth"
	"galley/internal/ort/orttest"
	"galley/internal/store"
	"galley/trainer"
)

// storyFile is a pipeline from texts to production. more goes into the recipe
// of the classifier.
func storyFile(more string) []byte {
	return fmt.Appendf(nil, `apiVersion: galley/v1
kind: Pipeline
name: story
steps:
  - id: release
    needs: [measure]
    spec: {kind: Promote, version: "${distil.version}"}
  - id: measure
    spec: {kind: Eval, version: "${distil.version}", against: "${tune.version}", data: {dataset: news, split: valid}}
  - id: distil
    spec: {kind: Distill, name: small, task: text-classification, data: {dataset: news}, teachers: ["${tune.version}"], recipe: {epochs: 1}, resources: {cpus: 1}}
  - id: tune
    spec: {kind: Train, name: topic, task: text-classification, data: {dataset: news}, from: "${pretrain.version}", recipe: {epochs: 1%s}, resources: {cpus: 1}}
  - id: pretrain
    spec: {kind: Train, name: base, task: text-mlm, data: {dataset: news}, recipe: {epochs: 1}, resources: {cpus: 1}}
`, more)
}

func (w *world) state(t *testing.T, j trainer.Job, id string) trainer.StepState {
	t.Helper()
	i := slices.IndexFunc(j.Steps, func(s trainer.StepState) bool { return s.ID == id })
	if i < 0 {
		t.Fatalf("%s is not in %+v", id, j.Steps)
	}
	return j.Steps[i]
}

// jobsOf are the jobs of all steps there ever were.
func (w *world) jobsOf(t *testing.T) int {
	t.Helper()
	jobs, err := w.Jobs(t.Context(), store.JobQuery{Limit: store.MaxList})
	if err != nil {
		t.Fatal(err)
	}
	return len(slices.DeleteFunc(jobs, func(j trainer.Job) bool { return j.Within == "" }))
}

func TestPipeline(t *testing.T) {
	w := newWorld(t, orttest.Opener(t), 2)
	w.add(t, "news", map[string]string{"train": rows, "valid": rows})
	j := w.submit(t, storyFile(""))
	if j.Phase != trainer.Running || len(j.Steps) != 5 {
		t.Fatalf("%+v", j)
	}
	j = w.wait(t, j.ID)
	if j.Phase != trainer.Succeeded || !slices.Equal(j.Versions, []string{"small@1", "topic@1", "base@1"}) || j.Progress.Step != 5 {
		t.Fatalf("%+v %v", j, j.Error)
	}
	tune, err := w.Job(t.Context(), w.state(t, j, "tune").Job)
	if err != nil || tune.Within != j.ID || tune.Owner != "ann" || tune.ParentRef != "base@1" || tune.Spec.From != "base@1" {
		t.Errorf("%+v %v", tune, err)
	}
	measured := w.state(t, j, "measure")
	if !regexp.MustCompile(`^accuracy [01]\.\d{4} against [01]\.\d{4} of topic@1 on 6 rows$`).MatchString(measured.Found) || measured.Report == "" || measured.Version != "small@1" || measured.Reused {
		t.Errorf("%+v", measured)
	}
	history, err := w.History(t.Context(), "small", "prod", 10)
	if err != nil || len(history) != 1 || history[0].To != 1 || history[0].By != "ann" || history[0].Reason != "step release of pipeline "+j.ID {
		t.Errorf("%+v %v", history, err)
	}
	log := w.log(t, j.ID)
	for _, want := range []string{"step pretrain: is job base-", "step tune: succeeded with topic@1", "step measure: succeeded with small@1: " + measured.Found, "step release: succeeded with small@1"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	if e, err := w.Explain(t.Context(), j.ID); err != nil || !slices.Contains(e.Reasons, "step distil: succeeded with small@1") {
		t.Errorf("%+v %v", e, err)
	}

	// With the same inputs nothing is run again.
	before := w.jobsOf(t)
	again := w.wait(t, w.submit(t, storyFile("")).ID)
	if again.Phase != trainer.Succeeded || !slices.Equal(again.Versions, j.Versions) || w.jobsOf(t) != before {
		t.Fatalf("%+v %v", again, again.Error)
	}
	for i, s := range again.Steps {
		if !s.Reused || s.Version != j.Steps[i].Version || s.Job != j.Steps[i].Job || s.Found != j.Steps[i].Found {
			t.Errorf("%+v was run again", s)
		}
	}
	// With another recipe, what comes after it is.
	other := w.wait(t, w.submit(t, storyFile(", seed: 5")).ID)
	if !w.state(t, other, "pretrain").Reused || w.state(t, other, "tune").Version != "topic@2" || w.state(t, other, "distil").Reused {
		t.Fatalf("%+v", other)
	}
	// With other data under the same name, all is.
	w.add(t, "news", map[string]string{"train": rows + "sport goal five,sport\n", "valid": rows})
	fresh := w.wait(t, w.submit(t, storyFile("")).ID)
	if s := w.state(t, fresh, "pretrain"); s.Reused || s.Phase != trainer.Succeeded {
		t.Errorf("%+v", s)
	}
}

// A step that calls what it reads by other names is the same step; one whose
// names lead elsewhere by now is another.
func TestPipelineOtherNames(t *testing.T) {
	w := newWorld(t, noOpener{}, 2)
	w.add(t, "news", map[string]string{"train": rows})
	base := func(seed int) {
		t.Helper()
		if j := w.wait(t, w.submit(t, jobFile("base", "text-mlm", fmt.Sprintf("recipe: {epochs: 1, seed: %d}\n", seed))).ID); j.Phase != trainer.Succeeded {
			t.Fatalf("%+v %v", j, j.Error)
		}
	}
	step := func(by galley.Actor, from, data, version string, reused bool) {
		t.Helper()
		j, err := w.Submit(t.Context(), by, fmt.Appendf(nil, "apiVersion: galley/v1\nkind: Pipeline\nname: one\nsteps:\n"+
			"  - {id: a, spec: {kind: Train, name: next, task: text-mlm, data: {dataset: %s}, from: '%s', recipe: {epochs: 1}, resources: {cpus: 1}}}\n", data, from), nil, "")
		if err != nil {
			t.Fatal(err)
		}
		j = w.wait(t, j.ID)
		if s := j.Steps[0]; s.Phase != trainer.Succeeded || s.Version != version || s.Reused != reused {
			t.Fatalf("from %s on %s: %+v %v, want %s", from, data, s, s.Error, version)
		}
	}
	base(1)
	step("ann", "base", "news", "next@1", false)
	for _, from := range []string{"base@1", "base:candidate", "base"} {
		step("ann", from, "news", "next@1", true)
		step("ann", from, "news@1", "next@1", true)
	}
	others := func(n int) {
		t.Helper()
		for i := range n {
			j := trainer.Job{ID: fmt.Sprintf("other-%d", i), Spec: trainer.Spec{Kind: trainer.KindTrain, Name: "other"}, Phase: trainer.Succeeded, Owner: "ann", Tenant: "ann", Generation: 1}
			if _, err := w.store.CreateJob(t.Context(), j, store.Commit{By: "ann", At: time.Now(), Action: "job.submit"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	others(2*atATime + 1)
	step("ann", "base@1", "news@1", "next@1", true)
	step("ann", "base@1", "news", "next@1", true)
	base(2)
	step("ann", "base:candidate", "news", "next@2", false)
	step("ann", "base@2", "news@1", "next@2", true)
	step("ann", "base@1", "news", "next@1", true)
	w.add(t, "news", map[string]string{"train": rows + "sport goal five,sport\n"})
	step("ann", "base@1", "news", "next@3", false)
	step("ann", "base@1", "news@1", "next@1", true)
	// What another tenant made is not taken, nor what was deleted.
	step("bob", "base@2", "news@2", "next@4", false)
	step("ann", "base@2", "news@2", "next@4", false)
	if _, err := w.Delete(t.Context(), "ann", galley.Ref{Name: "next", Version: 1}); err != nil {
		t.Fatal(err)
	}
	step("ann", "base@1", "news@1", "next@5", false)
}

// What fails stays apart: what does not wait for it goes on, and a resumed or
// mended pipeline does not repeat what has succeeded.
func TestPipelineFails(t *testing.T) {
	w := newWorld(t, orttest.Opener(t), 2)
	w.add(t, "news", map[string]string{"train": rows, "valid": rows})
	file := storyFile(", optimizer: {lr: 6}")
	j := w.wait(t, w.submit(t, file).ID)
	if j.Phase != trainer.Failed || j.Error == nil || !strings.HasPrefix(j.Error.Error(), "steps.tune: recipe: the loss is NaN at step 7 — lower") || !slices.Equal(j.Versions, []string{"base@1"}) {
		t.Fatalf("%+v %v", j, j.Error)
	}
	if s := w.state(t, j, "distil"); s.Phase != trainer.Queued {
		t.Errorf("%+v", s)
	}
	e, err := w.Explain(t.Context(), j.ID)
	if err != nil || !slices.Contains(e.Reasons, "step release was not run") || !strings.Contains(strings.Join(e.Reasons, "\n"), "galley jobs resume") {
		t.Errorf("%+v %v", e, err)
	}
	// Resumed, the step alone is tried again, and fails again.
	if _, err := w.Resume(t.Context(), "ann", j.ID); err != nil {
		t.Fatal(err)
	}
	j = w.wait(t, j.ID)
	child, err := w.Job(t.Context(), w.state(t, j, "tune").Job)
	if err != nil || j.Phase != trainer.Failed || child.Attempt() != 2 || w.jobsOf(t) != 2 {
		t.Fatalf("%+v %v: %+v", j, err, child)
	}
	mended := w.wait(t, w.submit(t, storyFile("")).ID)
	if mended.Phase != trainer.Succeeded || !w.state(t, mended, "pretrain").Reused || w.jobsOf(t) != 4 {
		t.Fatalf("%+v %v", mended, mended.Error)
	}
}

// A job that was cancelled goes on from its checkpoint when its pipeline does,
// and a pipeline that is cancelled cancels its jobs.
func TestPipelineCancelled(t *testing.T) {
	w := newWorld(t, noOpener{}, 2)
	w.add(t, "news", map[string]string{"train": rows})
	file := []byte("apiVersion: galley/v1\nkind: Pipeline\nname: pair\nsteps:\n" +
		"  - {id: a, spec: {kind: Train, name: base, task: text-mlm, data: {dataset: news}, recipe: {epochs: 60, checkpoint_every: 5}, resources: {cpus: 1}}}\n" +
		"  - {id: b, spec: {kind: Train, name: next, task: text-mlm, data: {dataset: news}, from: '${a.version}', recipe: {epochs: 1}, resources: {cpus: 1}}}\n")
	j := w.submit(t, file)
	var child trainer.Job
	eventually(t, func() bool {
		j, _ = w.Job(t.Context(), j.ID)
		child, _ = w.Job(t.Context(), j.Steps[0].Job)
		return child.Progress.Checkpoint > 0
	})
	if _, err := w.Cancel(t.Context(), "ann", j.ID); err != nil {
		t.Fatal(err)
	}
	j = w.wait(t, j.ID)
	child = w.wait(t, child.ID)
	if j.Phase != trainer.Cancelled || child.Phase != trainer.Cancelled || j.Steps[1].Phase != trainer.Queued {
		t.Fatalf("%+v\n%+v", j, child)
	}
	if _, err := w.Resume(t.Context(), "ann", j.ID); err != nil {
		t.Fatal(err)
	}
	j = w.wait(t, j.ID)
	child, err := w.Job(t.Context(), child.ID)
	if err != nil || j.Phase != trainer.Succeeded || !slices.Equal(j.Versions, []string{"base@1", "next@1"}) || len(child.Attempts) != 2 || child.Attempts[1].From == 0 {
		t.Fatalf("%v %+v\n%+v", err, j, child)
	}
}

// What can be known before anything starts is said before.
func TestPipelineRefused(t *testing.T) {
	w := newWorld(t, noOpener{}, 2)
	w.add(t, "news", map[string]string{"train": rows})
	file := string(storyFile(""))
	viewer := auth.WithCaller(t.Context(), auth.Caller{Actor: "eve", Role: auth.Viewer})
	for _, c := range []struct{ old, with, want string }{
		{"name: topic, task: text-classification, data: {dataset: news}", "name: topic, task: text-classification, data: {dataset: nothing}", "steps.tune: nothing: there is no such dataset"},
		{"name: base, task: text-mlm, data: {dataset: news}", "name: base, task: text-mlm, data: {dataset: news}, from: none@1", "steps.pretrain: none: there is no such model"},
		{"name: topic, task: text-classification, data: {dataset: news}", "name: topic, task: text-classification, data: {train: a.csv, format: csv}", "steps.tune: data.train: names a file"},
		{"name: topic,", "name: topic, needs: [gone-1],", "steps.tune: gone-1: there is no such job"},
		{"resources: {cpus: 1}}\n  - id: pretrain", "resources: {cpus: 1, memory: 65536GiB}}\n  - id: pretrain", "steps.tune: resources.memory: 65536GiB is more than"},
	} {
		_, err := w.Submit(t.Context(), "ann", []byte(strings.Replace(file, c.old, c.with, 1)), nil, "")
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	if _, err := w.Submit(viewer, "eve", []byte(file), nil, ""); galley.CodeOf(err) != galley.PermissionDenied || !strings.Contains(err.Error(), "release") {
		t.Errorf("%v", err)
	}
	if jobs, err := w.Jobs(t.Context(), store.JobQuery{}); err != nil || len(jobs) != 0 {
		t.Errorf("%v %v", jobs, err)
	}
	// The same key is the same pipeline.
	one, err := w.Submit(t.Context(), "ann", []byte(file), nil, "key")
	two, again := w.Submit(t.Context(), "ann", []byte(file), nil, "key")
	if err != nil || again != nil || one.ID != two.ID {
		t.Errorf("%v %v: %s %s", err, again, one.ID, two.ID)
	}
	if _, err := w.Submit(t.Context(), "ann", storyFile(", seed: 2"), nil, "key"); galley.CodeOf(err) != galley.AlreadyExists {
		t.Error(err)
	}
}

// Steps change the names of the tenant alone that their pipeline was submitted
// for.
func TestPipelineOfTenant(t *testing.T) {
	w := newWorld(t, noOpener{}, 2)
	w.add(t, "news", map[string]string{"train": rows})
	as := func(tenant, name string) trainer.Job {
		t.Helper()
		ctx := auth.WithCaller(t.Context(), auth.Caller{Actor: galley.Actor(tenant), Role: auth.Engineer, Tenant: tenant})
		file := fmt.Sprintf("apiVersion: galley/v1\nkind: Pipeline\nname: %s\nsteps:\n"+
			"  - {id: a, spec: {kind: Train, name: base, task: text-mlm, data: {dataset: news}, recipe: {epochs: 1}, resources: {cpus: 1}}}\n", name)
		j, err := w.Submit(ctx, galley.Actor(tenant), []byte(file), nil, "")
		if err != nil {
			t.Fatal(err)
		}
		return w.wait(t, j.ID)
	}
	if j := as("archive", "one"); j.Phase != trainer.Succeeded {
		t.Fatalf("%+v %v", j, j.Error)
	}
	if j := as("sports", "two"); j.Phase != trainer.Failed || j.Error.Code != galley.PermissionDenied {
		t.Errorf("%+v %v", j, j.Error)
	}
}

// A gate's refusal fails the step with what it failed by.
func TestPipelineGate(t *testing.T) {
	w := newWorld(t, orttest.Opener(t), 2)
	w.add(t, "news", map[string]string{"train": rows, "valid": rows})
	j := w.wait(t, w.submit(t, storyFile("")).ID)
	if j.Phase != trainer.Succeeded {
		t.Fatalf("%+v %v", j, j.Error)
	}
	most := 1.0
	if _, err := w.SetGate(t.Context(), "ann", "small", "prod", &evals.Gate{Rules: []evals.Rule{{Metric: "accuracy", Min: &most}}}); err != nil {
		t.Fatal(err)
	}
	j = w.wait(t, w.submit(t, storyFile(", seed: 4")).ID)
	s := w.state(t, j, "release")
	if j.Phase != trainer.Failed || s.Error == nil || !strings.Contains(s.Error.Message, "the gate refuses small@2 in the place of small@1\n") {
		t.Fatalf("%+v", j)
	}
	for _, command := range []string{"galley eval small@2 --data news@1,", "galley jobs resume " + j.ID + ";", "galley models promote small@2 prod --force --reason TEXT"} {
		if !strings.Contains(s.Error.Remedy, command) {
			t.Errorf("%q lacks %q", s.Error.Remedy, command)
		}
	}
	// With another gate it goes on where it was.
	if _, err := w.SetGate(t.Context(), "ann", "small", "prod", &evals.Gate{Rules: []evals.Rule{{Metric: "accuracy", Max: &most}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Resume(t.Context(), "ann", j.ID); err != nil {
		t.Fatal(err)
	}
	if j = w.wait(t, j.ID); j.Phase != trainer.Succeeded || w.state(t, j, "release").Version != "small@2" {
		t.Errorf("%+v %v", j, j.Error)
	}
}

// What its own job found not fit to be chosen is not promoted.
func TestPipelineWithheld(t *testing.T) {
	w := newWorld(t, noOpener{}, 2)
	w.add(t, "news", map[string]string{"train": rows})
	file := "apiVersion: galley/v1\nkind: Pipeline\nname: pair\nsteps:\n" +
		"  - {id: a, spec: {kind: Train, name: slow, task: text-mlm, data: {dataset: news}, recipe: {epochs: 1}, resources: {cpus: 1}}}\n" +
		"  - {id: b, spec: {kind: Promote, version: '${a.version}', alias: next}}\n"
	j := w.wait(t, w.submit(t, []byte(file)).ID)
	if j.Phase != trainer.Failed || j.Error.Error() != "steps.b: slow@1: is not chosen by itself: it is slower — promote it by name: galley models promote slow@1 next" {
		t.Fatalf("%+v %v", j, j.Error)
	}
	if e, err := w.Explain(t.Context(), j.Steps[0].Job); err != nil || !slices.Contains(e.Reasons, "it did not become the candidate: it is slower") {
		t.Errorf("%+v %v", e, err)
	}
}

// A server killed at random moments repeats no step of a pipeline.
func TestPipelineKilledServers(t *testing.T) {
	if testing.Short() {
		t.Skip("kills servers for several seconds")
	}
	home := t.TempDir()
	w, err := open(home, noOpener{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.stop() })
	w.add(t, "news", map[string]string{"train": rows})
	var file strings.Builder
	file.WriteString("apiVersion: galley/v1\nkind: Pipeline\nname: chain\nsteps:\n")
	const steps = 6
	for i := range steps {
		from := ""
		if i > 0 {
			from = fmt.Sprintf(", from: '${s%d.version}'", i/2)
		}
		fmt.Fprintf(&file, "  - {id: s%d, spec: {kind: Train, name: m%d, task: text-mlm, data: {dataset: news}, recipe: {epochs: 3, checkpoint_every: 7}, resources: {cpus: 1}%s}}\n", i, i, from)
	}
	j := w.submit(t, []byte(file.String()))
	w.stop()
	r := rand.New(rand.NewPCG(5, 6))
	for range 6 {
		cmd := startServer(t, home)
		time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
	if w, err = open(home, noOpener{}, 2); err != nil {
		t.Fatal(err)
	}
	j = w.wait(t, j.ID)
	if j.Phase != trainer.Succeeded || w.jobsOf(t) != steps {
		t.Fatalf("%d jobs: %+v %v", w.jobsOf(t), j, j.Error)
	}
	for i := range steps {
		if !slices.Contains(j.Versions, fmt.Sprintf("m%d@1", i)) || len(j.Versions) != steps {
			t.Errorf("%v", j.Versions)
		}
	}
}

package control

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"galley"
	"galley/internal/store"
	"galley/trainer"
	"galley/trainer/launch/process"
)

// The test binary is the attempt and the server, too: see Main and server.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "attempt":
			os.Exit(process.Main(drivers))
		case "server":
			os.Exit(server(os.Args[2]))
		case "federated":
			os.Exit(federatedServer(os.Args[2]))
		case "faults":
			os.Exit(loadedServer(os.Args[2:]))
		}
	}
	// The race detector would keep each child for a second.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	os.Exit(m.Run())
}

func TestTrainAndPublish(t *testing.T) {
	w := newWorld(t, noOpener{}, 2)
	if r := w.add(t, "news", map[string]string{"train": rows + "only one column\n"}); r.Total != 1 || r.First[0].File != "train.csv" {
		t.Errorf("rejected %+v", r)
	}
	j := w.wait(t, w.submit(t, jobFile("base", "text-mlm", "recipe: {epochs: 1}\n")).ID)
	if j.Phase != trainer.Succeeded || len(j.Versions) != 1 || j.Versions[0] != "base@1" || j.Metrics["loss"] != 0.25 {
		t.Fatalf("%+v", j)
	}
	v, aliases, err := w.Version(t.Context(), galley.Ref{Name: "base"})
	if err != nil {
		t.Fatal(err)
	}
	if len(aliases) != 1 || aliases[0] != Candidate || len(v.Artifacts) != 3 || v.Lineage.Job != j.ID || v.Lineage.Dataset != "news@1" {
		t.Errorf("%+v %v", v, aliases)
	}
	log := w.log(t, j.ID)
	for _, want := range []string{"started at step 0/20", "parent false records 2", "published as base@1"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	// The work folder goes with success.
	eventually(t, func() bool { _, err := os.Stat(w.workDir(j.ID)); return os.IsNotExist(err) })

	// The same spec is the same model.
	again := w.wait(t, w.submit(t, jobFile("base", "text-mlm", "recipe: {epochs: 1}\n")).ID)
	if again.Versions[0] != "base@1" {
		t.Errorf("%v", again.Versions)
	}

	// Going on from it.
	next := w.wait(t, w.submit(t, jobFile("more", "text-mlm", "from: base@1\n")).ID)
	if next.Phase != trainer.Succeeded || next.ParentRef != "base@1" || next.Parent != v.Digest {
		t.Errorf("%+v", next)
	}
	if log := w.log(t, next.ID); !strings.Contains(log, "parent true") {
		t.Error(log)
	}
	tree, err := w.Lineage(t.Context(), galley.Ref{Name: "more"})
	if err != nil || tree.Parent == nil || tree.Parent.Ref != "base@1" || tree.Parent.Parent != nil {
		t.Errorf("%+v %v", tree, err)
	}
}

// A NaN loss fails the job and names the step; after a change of mind it can
// be resumed, and fails again.
func TestNaN(t *testing.T) {
	w := newWorld(t, noOpener{}, 2)
	w.add(t, "news", map[string]string{"train": rows})
	j := w.wait(t, w.submit(t, jobFile("bad", "text-mlm", "recipe: {optimizer: {lr: 9}, checkpoint_every: 5}\n")).ID)
	if j.Phase != trainer.Failed || j.Error.Error() != "recipe: the loss is NaN at step 7 — lower recipe.optimizer.lr" || j.Progress.Checkpoint != 5 {
		t.Fatalf("%+v %v", j, j.Error)
	}
	why, err := w.Explain(t.Context(), j.ID)
	if err != nil || len(why.Reasons) < 2 || !strings.Contains(why.Reasons[1], "goes on from step 5") {
		t.Errorf("%+v %v", why, err)
	}
	if _, err := w.Resume(t.Context(), "ann", j.ID); err != nil {
		t.Fatal(err)
	}
	j = w.wait(t, j.ID)
	if j.Phase != trainer.Failed || len(j.Attempts) != 2 || j.Attempts[1].From != 5 {
		t.Errorf("%+v", j)
	}
}

func TestCancelAndResume(t *testing.T) {
	w := newWorld(t, noOpener{}, 1)
	w.add(t, "news", map[string]string{"train": rows})
	long := jobFile("long", "text-mlm", "recipe: {epochs: 500}\n")
	first, second := w.submit(t, long), w.submit(t, jobFile("next", "text-mlm", "recipe: {epochs: 1}\n"))
	eventually(t, func() bool { j, _ := w.Job(t.Context(), first.ID); return j.Progress.Step > 5 })

	why, err := w.Explain(t.Context(), second.ID)
	if err != nil || len(why.Reasons) != 1 || why.Reasons[0] != "it needs 1 of 1 CPUs, and 1 are in use by "+first.ID {
		t.Errorf("%+v %v", why, err)
	}
	if _, err := w.Cancel(t.Context(), "ann", first.ID); err != nil {
		t.Fatal(err)
	}
	j := w.wait(t, first.ID)
	if j.Phase != trainer.Cancelled || j.Progress.Checkpoint < 5 {
		t.Errorf("%+v", j)
	}
	if j := w.wait(t, second.ID); j.Phase != trainer.Succeeded {
		t.Errorf("%+v", j)
	}
	if _, err := w.Cancel(t.Context(), "ann", first.ID); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Error(err)
	}
	at := j.Progress.Checkpoint
	if _, err := w.Resume(t.Context(), "ann", first.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { j, _ := w.Job(t.Context(), first.ID); return j.Attempt() == 2 && j.Progress.Step > at })
	j, _ = w.Job(t.Context(), first.ID)
	if j.Attempts[1].From != at {
		t.Errorf("resumed at %d instead of %d", j.Attempts[1].From, at)
	}
	if _, err := w.Cancel(t.Context(), "ann", first.ID); err != nil {
		t.Fatal(err)
	}
	w.wait(t, first.ID)
}

func TestSubmitRefuses(t *testing.T) {
	w := newWorld(t, noOpener{}, 1)
	w.add(t, "news", map[string]string{"train": rows})
	for _, c := range []struct {
		file string
		code galley.Code
		text string
	}{
		{"kind: Trian\napiVersion: galley/v1\n", galley.InvalidArgument, `line 1, column 7: kind: "Trian" is not a kind — did you mean "Train"?`},
		{string(jobFile("a", "text-mlm", "from: nothing@3\n")), galley.NotFound, "nothing"},
		{string(jobFile("a", "text-mlm", "from: sha256:"+strings.Repeat("0", 64)+"\n")), galley.NotFound, "neither a version nor an upload"},
		{string(jobFile("a", "text-mlm", "from: /etc/model.onnx\n")), galley.InvalidArgument, "opens no file that a client names"},
		{strings.ReplaceAll(string(jobFile("a", "text-mlm", "")), "dataset: news", "train: /etc/passwd, format: csv"), galley.InvalidArgument, "opens no file that a client names"},
		{strings.ReplaceAll(string(jobFile("a", "text-mlm", "")), "dataset: news", "dataset: old"), galley.NotFound, "galley data add"},
		{string(jobFile("a", "text-classification", "recipe: {class_weights: {mode: given, values: {weather: 1}}}\n")), galley.InvalidArgument, `"weather" is not a label of news@1`},
	} {
		_, err := w.Submit(t.Context(), "ann", []byte(c.file), nil, "")
		if galley.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.file, err)
		}
	}
	if jobs, err := w.store.Jobs(t.Context(), store.JobQuery{}); err != nil || len(jobs) != 0 {
		t.Errorf("%d jobs, %v", len(jobs), err)
	}
}

func TestIdempotencyKey(t *testing.T) {
	w := newWorld(t, noOpener{}, 1)
	w.add(t, "news", map[string]string{"train": rows})
	file := jobFile("a", "text-mlm", "recipe: {epochs: 1}\n")
	first, err := w.Submit(t.Context(), "ann", file, nil, "key")
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.Submit(t.Context(), "ann", file, nil, "key")
	if err != nil || again.ID != first.ID {
		t.Errorf("%s %s %v", first.ID, again.ID, err)
	}
	if _, err := w.Submit(t.Context(), "ann", file, []string{"recipe.epochs=2"}, "key"); galley.CodeOf(err) != galley.AlreadyExists {
		t.Error(err)
	}
	other, err := w.Submit(t.Context(), "bob", file, nil, "key")
	if err != nil || other.ID == first.ID {
		t.Errorf("%s %v", other.ID, err)
	}
	w.wait(t, first.ID)
	w.wait(t, other.ID)
	w.passes.Lock() // the jobs below are nobody's
	defer w.passes.Unlock()
	fill := func(n int) {
		w.board.mu.Lock()
		defer w.board.mu.Unlock()
		clear(w.board.tickets)
		for i := range n {
			w.board.tickets[fmt.Sprint("full-", i)] = &ticket{phase: trainer.Queued}
		}
	}
	fill(maxJobs)
	defer fill(0)
	again, err = w.Submit(t.Context(), "ann", file, nil, "key")
	if err != nil || again.ID != first.ID {
		t.Errorf("a full queue: %s %v", again.ID, err)
	}
	if _, err := w.Submit(t.Context(), "ann", file, nil, "another"); galley.CodeOf(err) != galley.ResourceExhausted {
		t.Error(err)
	}
}

// Attempts that are killed go on from their checkpoints, to the same model.
func TestKilledAttempts(t *testing.T) {
	w := newWorld(t, noOpener{}, 2)
	w.add(t, "news", map[string]string{"train": rows})
	spec := "recipe: {epochs: 12, checkpoint_every: 7}\n" // half a second
	whole := w.wait(t, w.submit(t, jobFile("whole", "text-mlm", spec)).ID)
	j := w.submit(t, jobFile("killed", "text-mlm", spec))
	resume := func(j trainer.Job) {
		t.Helper()
		if _, err := w.Resume(t.Context(), "ann", j.ID); err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		time.Sleep(time.Duration(20+r.IntN(150)) * time.Millisecond)
		if now, err := w.Job(t.Context(), j.ID); err == nil && now.Phase == trainer.Failed {
			resume(now) // three in a row died before a checkpoint
		}
		w.mu.Lock()
		if a := w.attempts[j.ID]; a != nil {
			a.mu.Lock()
			if a.process != nil {
				a.process.Kill()
			}
			a.mu.Unlock()
		}
		w.mu.Unlock()
	}
	if j = w.wait(t, j.ID); j.Phase == trainer.Failed {
		resume(j)
		j = w.wait(t, j.ID)
	}
	if j.Phase != trainer.Succeeded {
		t.Fatalf("%+v %v", j, j.Error)
	}
	if len(j.Attempts) < 2 {
		t.Errorf("%d attempts", len(j.Attempts))
	}
	began := 0
	for _, a := range j.Attempts {
		if a.From == 0 && a.Step == 0 {
			continue // killed before it said where it began
		}
		if a.From < began || a.From%7 != 0 {
			t.Errorf("attempt %d began at %d after one that began at %d", a.Number, a.From, began)
		}
		began = a.From
	}
	if got, want := w.modelDigest(t, j.Versions[0]), w.modelDigest(t, whole.Versions[0]); got != want {
		t.Errorf("the interrupted job made %s, the other %s", got, want)
	}
}

package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"galley"
	"galley/internal/auth"
	"galley/internal/blob"
	"galley/internal/store"
	"galley/scheduler"
	"galley/trainer"
)

func scheduled(t *testing.T, cpus int, more ...func(*Options)) *world {
	t.Helper()
	w, err := openWith(t.TempDir(), noOpener{}, cpus, blob.Options{}, more...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	w.add(t, "news", map[string]string{"train": rows})
	return w
}

func (w *world) reasons(t *testing.T, id string) string {
	t.Helper()
	e, err := w.Explain(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(e.Reasons, "; ")
}

func (w *world) runs(t *testing.T, id string, step int) {
	t.Helper()
	eventually(t, func() bool {
		j, _ := w.Job(t.Context(), id)
		return j.Phase == trainer.Running && j.Progress.Step >= step
	})
}

// An urgent job takes the place of another, which stores a checkpoint, goes on
// from it afterwards, and makes the model that it would have made.
func TestPreemption(t *testing.T) {
	w := scheduled(t, 1)
	spec := "recipe: {epochs: 12, checkpoint_every: 1000}\npriority: 10\n"
	whole := w.wait(t, w.submit(t, jobFile("whole", "text-mlm", spec)).ID)
	w.board.mu.Lock()
	w.board.settle = 0
	w.board.mu.Unlock()
	slow := w.submit(t, jobFile("slow", "text-mlm", spec))
	w.runs(t, slow.ID, 10)
	urgent := w.submit(t, jobFile("urgent", "text-mlm", "recipe: {epochs: 1}\npriority: 90\n"))
	if j := w.wait(t, urgent.ID); j.Phase != trainer.Succeeded || len(j.Attempts) != 1 {
		t.Errorf("%+v", j)
	}
	j := w.wait(t, slow.ID)
	if j.Phase != trainer.Succeeded || len(j.Attempts) != 2 || j.Attempts[0].Cause != trainer.Preempted || j.Attempts[1].From < 10 || j.Attempts[1].From != j.Attempts[0].Checkpoint {
		t.Fatalf("%+v", j)
	}
	if got, want := w.modelDigest(t, j.Versions[0]), w.modelDigest(t, whole.Versions[0]); got != want {
		t.Errorf("made %s instead of %s", got, want)
	}
}

func TestNeeds(t *testing.T) {
	w := scheduled(t, 2)
	bad := w.submit(t, jobFile("bad", "text-mlm", "recipe: {epochs: 20, optimizer: {lr: 9}}\n"))
	long := w.submit(t, jobFile("long", "text-mlm", "recipe: {epochs: 500}\n"))
	after := w.submit(t, jobFile("after", "text-mlm", fmt.Sprintf("needs: [%s]\n", long.ID)))
	// It may have failed by now, and then its dependent is refused.
	child, err := w.Submit(t.Context(), "ann", jobFile("child", "text-mlm", fmt.Sprintf("needs: [%s]\n", bad.ID)), nil, "")
	if err == nil {
		if j := w.wait(t, child.ID); j.Phase != trainer.Failed || !strings.Contains(j.Error.Error(), bad.ID+", which has to succeed first, has failed") {
			t.Errorf("%+v %v", j, j.Error)
		}
	} else if galley.CodeOf(err) != galley.FailedPrecondition {
		t.Error(err)
	}
	w.wait(t, bad.ID)
	if _, err := w.Submit(t.Context(), "ann", jobFile("late", "text-mlm", fmt.Sprintf("needs: [%s]\n", bad.ID)), nil, ""); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Error(err)
	}
	if _, err := w.Submit(t.Context(), "ann", jobFile("lost", "text-mlm", "needs: [absent]\n"), nil, ""); galley.CodeOf(err) != galley.NotFound {
		t.Error(err)
	}
	if why := w.reasons(t, after.ID); why != long.ID+" has to succeed first" {
		t.Error(why)
	}
	grandchild := w.submit(t, jobFile("grandchild", "text-mlm", fmt.Sprintf("needs: [%s]\n", after.ID)))
	if _, err := w.Cancel(t.Context(), "ann", long.ID); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{after.ID, grandchild.ID} {
		if j := w.wait(t, id); j.Phase != trainer.Cancelled {
			t.Errorf("%+v", j)
		}
	}
	if why := w.reasons(t, after.ID); !strings.Contains(why, long.ID+", which has to succeed first, was cancelled") {
		t.Error(why)
	}
	base := w.submit(t, jobFile("base", "text-mlm", "recipe: {epochs: 1}\n"))
	next := w.submit(t, jobFile("next", "text-mlm", fmt.Sprintf("recipe: {epochs: 1}\nneeds: [%s]\n", base.ID)))
	j, parent := w.wait(t, next.ID), w.wait(t, base.ID)
	if j.Phase != trainer.Succeeded || j.Attempts[0].Started.Before(*parent.Attempts[0].Ended) {
		t.Errorf("%+v", j)
	}
}

// An attempt whose process stands still is found by its silence, killed, and
// made again from its checkpoint.
func TestHungAttempt(t *testing.T) {
	w := scheduled(t, 1, func(o *Options) { o.Silence = 4 * time.Second }) // a busy machine is quicker
	j := w.wait(t, w.submit(t, jobFile("hung", "text-mlm", fmt.Sprintf("recipe: {epochs: 1, seed: %d, checkpoint_every: 4}\n", hangs))).ID)
	if j.Phase != trainer.Succeeded || len(j.Attempts) != 2 || j.Attempts[0].Cause != trainer.Hung || j.Attempts[1].From != 4 {
		t.Fatalf("%+v %v", j, j.Error)
	}
	if why := w.reasons(t, j.ID); !strings.Contains(why, "attempt 1 was crashed at step 5: it gave no sign of life for 4s, and was killed") {
		t.Error(why)
	}
}

// After a lack of memory the next attempt reserves twice as much.
func TestOutOfMemory(t *testing.T) {
	w := scheduled(t, 1)
	j := w.wait(t, w.submit(t, jobFile("starved", "text-mlm", fmt.Sprintf("recipe: {epochs: 1, seed: %d, checkpoint_every: 4}\n", starves))).ID)
	if j.Phase != trainer.Succeeded || len(j.Attempts) != 2 || j.Attempts[0].Cause != trainer.OutOfMemory || j.Memory != 2*j.Spec.MemoryNeed(0) {
		t.Fatalf("%+v %v", j, j.Error)
	}
}

func TestAdmission(t *testing.T) {
	w := scheduled(t, 2, func(o *Options) {
		o.Tenants = []scheduler.Tenant{{Name: "sport", Quota: scheduler.Resources{scheduler.CPU: 1000}}}
	})
	if w.board.capacity[scheduler.Memory] > 0 {
		file := strings.Replace(string(jobFile("huge", "text-mlm", "")), "{cpus: 1}", "{cpus: 1, memory: 60000GiB}", 1)
		if _, err := w.Submit(t.Context(), "ann", []byte(file), nil, ""); galley.CodeOf(err) != galley.ResourceExhausted || !strings.Contains(err.Error(), "60000GiB is more than") {
			t.Error(err)
		}
	}
	sport := auth.WithCaller(t.Context(), auth.Caller{Actor: "ann", Tenant: "sport"})
	var jobs []trainer.Job
	for _, name := range []string{"one", "two"} {
		j, err := w.Submit(sport, "ann", jobFile(name, "text-mlm", "recipe: {epochs: 500}\n"), nil, "")
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, j)
	}
	w.runs(t, jobs[0].ID, 1)
	if why := w.reasons(t, jobs[1].ID); why != "it needs 1 CPUs, and the quota of sport has 0 CPUs left; "+jobs[0].ID+" use the rest" {
		t.Error(why)
	}
	file := strings.Replace(string(jobFile("wide", "text-mlm", "")), "{cpus: 1}", "{cpus: 2}", 1)
	wide, err := w.Submit(sport, "ann", []byte(file), nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if why := w.reasons(t, wide.ID); why != "it needs 2 CPUs, and the quota of sport is 1 CPUs: it cannot start" {
		t.Error(why)
	}
	for _, j := range append(jobs, wide) {
		if _, err := w.Cancel(t.Context(), "ann", j.ID); err != nil {
			t.Error(err)
		}
	}
}

// Several threads that schedule at once start each job once.
func TestScheduleAtOnce(t *testing.T) {
	w := scheduled(t, 2)
	var ids []string
	for i := range 12 {
		ids = append(ids, w.submit(t, jobFile(fmt.Sprint("job-", i), "text-mlm", "recipe: {epochs: 1}\n")).ID)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var threads sync.WaitGroup
	for range 3 {
		threads.Go(func() {
			for ctx.Err() == nil {
				w.board.stir()
				w.pass(ctx)
				time.Sleep(time.Millisecond)
			}
		})
	}
	type span struct{ from, to time.Time }
	var spans []span
	for _, id := range ids {
		j := w.wait(t, id)
		if j.Phase != trainer.Succeeded || len(j.Attempts) != 1 {
			t.Errorf("%+v", j)
		}
		spans = append(spans, span{j.Attempts[0].Started, *j.Attempts[0].Ended})
	}
	cancel()
	threads.Wait()
	for _, s := range spans {
		beside := slices.DeleteFunc(slices.Clone(spans), func(o span) bool { return o.from.After(s.from) || !o.to.After(s.from) })
		if len(beside) > 2 {
			t.Errorf("%d attempts ran at once on 2 CPUs", len(beside))
		}
	}
}

// A clock that is set back makes no one wait, and kills no one.
func TestClockBack(t *testing.T) {
	for _, back := range []time.Duration{time.Minute, 24 * time.Hour} {
		t.Run(back.String(), func(t *testing.T) { testClockBack(t, back) })
	}
}

func testClockBack(t *testing.T, back time.Duration) {
	var mu sync.Mutex
	var behind time.Duration
	w := scheduled(t, 1, func(o *Options) {
		o.Silence = 10 * time.Second
		o.Clock = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(-behind)
		}
	})
	j := w.submit(t, jobFile("starved", "text-mlm", fmt.Sprintf("recipe: {epochs: 5, seed: %d, checkpoint_every: 1000}\n", starves)))
	eventually(t, func() bool { j, _ = w.Job(t.Context(), j.ID); return !j.NotBefore.IsZero() })
	if why := w.reasons(t, j.ID); !strings.Contains(why, "its last attempt got nowhere: the next one starts in") && !strings.Contains(why, "next pass") {
		t.Error(why)
	}
	mu.Lock()
	behind = back
	mu.Unlock()
	if j = w.wait(t, j.ID); j.Phase != trainer.Succeeded || len(j.Attempts) != 2 {
		t.Errorf("%+v", j)
	}
}

// A write that failed and was stored all the same is found out.
func TestWriteInDoubt(t *testing.T) {
	w := scheduled(t, 1)
	first := w.submit(t, jobFile("first", "text-mlm", "recipe: {epochs: 500}\n"))
	w.runs(t, first.ID, 1)
	second := w.submit(t, jobFile("second", "text-mlm", ""))
	cancelled, _, err := trainer.Step(second, trainer.CancelAsked{At: w.now()})
	if err != nil {
		t.Fatal(err)
	}
	if cancelled, err = w.store.SaveJob(t.Context(), cancelled, store.Commit{By: "ann", At: w.now()}); err != nil {
		t.Fatal(err)
	}
	_ = w.noted(cancelled, context.Canceled)
	if w.board.queued() != 1 {
		t.Error("a write in doubt counts at once")
	}
	w.kick()
	eventually(t, func() bool { return w.board.queued() == 0 && len(w.board.doubted()) == 0 })
	if _, err := w.Cancel(t.Context(), "ann", first.ID); err != nil {
		t.Fatal(err)
	}
}

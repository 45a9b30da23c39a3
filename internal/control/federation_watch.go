package control

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"galley"
	"galley/federation"
	"galley/internal/store"
	"galley/trainer"
)

// beginRun has a job of kind Federate that runs in memory: its partners are
// answered from now on.
func (c *Control) beginRun(j trainer.Job) *run { return c.federations.begin(c.newRun(j)) }

func (c *Control) newRun(j trainer.Job) *run {
	r := &run{job: j.ID, name: j.Spec.Federation, partners: j.Spec.Partners, unsure: true}
	r.nudge = func() { c.federating.nudge(r.job) }
	return r
}

// resumeFederations drives those that ran when the server went away.
func (c *Control) resumeFederations() {
	for _, id := range c.interrupted {
		c.driveFederation(id)
	}
	c.interrupted = nil
}

// driveFederation has a goroutine drive the federation of a job to its end.
func (c *Control) driveFederation(id string) {
	c.drive(&c.federating, id, func(ctx context.Context, _ context.CancelFunc, signal <-chan struct{}) {
		w := &watch{c: c, job: id, since: time.Now()}
		defer w.stop()
		w.drive(ctx, signal)
	})
}

// A watch drives a federation: it opens rounds when they are due, ends them at
// their deadline, aggregates, and publishes. What is to be done follows from
// what is stored, and is done again until it is.
type watch struct {
	c     *Control
	job   string
	since time.Time // when it began

	work string // what is done beside, "" for nothing
	end  context.CancelFunc
	done sync.WaitGroup
}

// again is when a watch tries again what failed, and looks whether it missed
// something.
const again = 2 * time.Second

// behind is when it looks again whose federation another job runs: one of the
// two has ended.
const behind = 10 * time.Millisecond

func (w *watch) drive(ctx context.Context, signal <-chan struct{}) {
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-w.c.draining:
			return
		case <-ctx.Done():
			return
		case <-signal:
		case <-next.C:
		}
		done, wait, err := w.pass(ctx)
		if err != nil && !errors.Is(err, context.Canceled) {
			w.c.log.Error("a federation cannot go on; it is tried again", "job", w.job, "error", err)
		}
		if done && w.c.federating.leave(w.job) {
			return
		}
		next.Reset(max(time.Millisecond, min(wait, again)))
	}
}

// pass does what is due now, and says when to look again at the latest.
func (w *watch) pass(ctx context.Context) (done bool, wait time.Duration, err error) {
	wait = time.Hour
	j, err := w.c.store.Job(ctx, w.job)
	if galley.CodeOf(err) == galley.NotFound || err == nil && j.Phase.Final() {
		w.stop()
		w.c.federations.end(w.job)
		w.c.presence.callAll(j.Spec.Federation) // who attends may want to know
		return true, wait, nil
	}
	if err != nil {
		return false, wait, err
	}
	r, ok := w.c.federations.keep(w.c.newRun(j))
	if !ok {
		return false, behind, nil
	}
	if r.doubt(false) {
		memberships, err := w.c.store.Memberships(ctx, "", r.name)
		if err == nil {
			err = w.c.admitAll(ctx, r, memberships)
		}
		if err != nil {
			r.doubt(true)
			return false, wait, err
		}
	}
	f, err := w.c.stored(ctx, r)
	if err != nil {
		return false, wait, err
	}
	if j.Cancelling && !f.Staged {
		w.stop()
		return false, wait, w.c.cancelRun(ctx, r)
	}
	switch {
	case f.State == federation.Running:
		return false, w.tick(ctx, r, f), err
	case f.State == federation.Succeeded && !f.Staged:
		w.start(ctx, "publish", func(ctx context.Context) { w.c.publishRun(ctx, j, r) })
	default:
		w.stop()
	}
	return false, wait, nil
}

// tick does what is due of a federation that runs.
func (w *watch) tick(ctx context.Context, r *run, f store.Federation) (wait time.Duration) {
	if effects := f.Resume(); len(effects) == 1 {
		if work, ok := effects[0].(federation.StartAggregation); ok {
			w.start(ctx, aggregationKey(work), func(ctx context.Context) { w.c.aggregate(ctx, r, work) })
			return time.Hour
		}
	}
	w.stop()
	present := w.c.presence.at(r.name)
	if f.Round == nil {
		if left := w.c.gather - time.Since(w.since); left > 0 && someMissing(f.Federation, present) {
			return left
		}
	}
	at := w.c.now()
	if due, ok := f.Due(); f.Round != nil && (!ok || at.Before(due)) {
		return due.Sub(at)
	}
	if _, err := w.c.advance(ctx, r, federation.Ticked{At: at, Present: present}); err != nil {
		w.c.log.Error("a federation cannot go on; it is tried again", "job", w.job, "error", err)
		return again
	}
	if f, err := w.c.stored(ctx, r); err == nil {
		if due, ok := f.Due(); ok {
			return due.Sub(w.c.now())
		}
	}
	return time.Hour
}

// someMissing reports whether there are members whose agents are not there.
func someMissing(f federation.Federation, present []string) bool {
	return slices.ContainsFunc(f.Members, func(m federation.Member) bool {
		return m.Revoked == "" && !slices.Contains(present, m.Name)
	})
}

// start has work done beside, unless it is; other work ends.
func (w *watch) start(ctx context.Context, work string, do func(context.Context)) {
	if w.work == work {
		return
	}
	w.stop()
	ctx, cancel := context.WithCancel(ctx)
	w.work, w.end = work, cancel
	w.done.Go(func() {
		defer cancel()
		do(ctx)
	})
}

// stop ends what is done beside, and waits for it.
func (w *watch) stop() {
	if w.work != "" {
		w.end()
		w.done.Wait()
		w.work = ""
	}
}

// cancelRun ends a federation whose job is to be cancelled. What is on its way
// into the registry goes on.
func (c *Control) cancelRun(ctx context.Context, r *run) error {
	f, err := c.stored(ctx, r)
	if err != nil {
		return err
	}
	if f.State == federation.Running {
		_, err := c.advance(ctx, r, federation.Cancelled{At: c.now(), Why: "its job was cancelled"})
		return err
	}
	_, err = c.step(ctx, r.job, trainer.FederationCancelled{At: c.now()}, change{})
	r.nudge()
	return err
}

// failRun ends the job of a federation with an error that would come again.
func (c *Control) failRun(ctx context.Context, r *run, err error) error {
	_, err = c.step(ctx, r.job, trainer.FederationFailed{At: c.now(), Err: galley.AsError(err)}, change{})
	r.nudge()
	return err
}

// resumeFederation takes a federation up again that failed: with the round that
// failed, or with making a version of its rounds.
func (c *Control) resumeFederation(ctx context.Context, by galley.Actor, j trainer.Job) (trainer.Job, error) {
	at := c.now()
	if _, _, err := trainer.Step(j, trainer.ResumeAsked{At: at}); err != nil {
		return j, err
	}
	r := &run{job: j.ID, name: j.Spec.Federation, nudge: func() {}}
	f, err := c.store.Federation(ctx, j.ID)
	if err != nil {
		return j, err
	}
	if f.Federation, _, err = federation.Advance(f.Federation, federation.Resumed{At: at}); err != nil {
		return j, err
	}
	ch := store.FederationChange{Federation: f, JobCommit: store.Commit{By: by, Action: "job.resume"}}
	if _, err := c.saveWithJob(ctx, r, ch, []trainer.Event{trainer.ResumeAsked{At: at}}); err != nil {
		return j, err
	}
	begun := c.beginRun(j)
	begun.set(nil)
	begun.doubt(true)
	c.driveFederation(j.ID)
	return c.store.Job(ctx, j.ID)
}

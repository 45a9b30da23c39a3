package control

import (
	"context"
	"fmt"
	"strings"
	"time"

	"galley/scheduler"
	"galley/trainer"
)

// An Explanation says why a job is as it is: what it waits for, or how it
// ended.
type Explanation struct {
	Job     trainer.Job
	Reasons []string
	Waiting *scheduler.Waiting // of a job that waits; nil if it starts at the next pass
}

// Explain says why a job is as it is. What a job waits for is read off the
// plan that would be made now.
func (c *Control) Explain(ctx context.Context, id string) (Explanation, error) {
	j, err := c.store.Job(ctx, id)
	if err != nil {
		return Explanation{}, err
	}
	e := Explanation{Job: j}
	say := func(format string, args ...any) { e.Reasons = append(e.Reasons, fmt.Sprintf(format, args...)) }
	if j.Spec.Kind == trainer.KindPipeline {
		explainPipeline(j, say)
		return e, nil
	}
	if j.Spec.Kind == trainer.KindFederate {
		return e, c.explainFederation(ctx, j, say)
	}
	switch j.Phase {
	case trainer.Queued:
		s, p := c.board.trial(c.now())
		for i := range p.Waiting {
			if p.Waiting[i].Job == id {
				e.Waiting = &p.Waiting[i]
			}
		}
		if e.Waiting == nil {
			say("it starts at the next pass of the scheduler")
			break
		}
		if e.Waiting.Place > 1 {
			say("%d jobs are before it in the queue, the first is %s", e.Waiting.Place-1, first(p))
		}
		c.sayWaiting(j, s, *e.Waiting, say)
	case trainer.Running:
		last := j.Attempts[len(j.Attempts)-1]
		switch {
		case last.Ended != nil:
			say("attempt %d has finished; its model is being published", last.Number)
		case j.Cancelling:
			say("attempt %d has been asked to stop, and stores a checkpoint", last.Number)
		case j.Preempting != "":
			say("attempt %d stores a checkpoint and makes room for %s; the job goes on later", last.Number, j.Preempting)
		case j.Progress.Steps == 0:
			say("attempt %d prepares its data and model", last.Number)
		default:
			say("attempt %d is at step %d of %d; its last checkpoint is of step %d", last.Number, j.Progress.Step, j.Progress.Steps, j.Progress.Checkpoint)
		}
	case trainer.Succeeded:
		say("published as %s", strings.Join(j.Versions, ", "))
		if j.Withheld != "" {
			say("it did not become the candidate: %s", j.Withheld)
		}
	case trainer.Failed:
		if j.Error != nil {
			say("%s", j.Error.Error())
		}
		say("galley jobs resume %s goes on from step %d", j.ID, j.Progress.Checkpoint)
	case trainer.Cancelled:
		for _, need := range j.Spec.Needs {
			if n, err := c.store.Job(ctx, need); err == nil && n.Phase == trainer.Cancelled {
				say("%s, which has to succeed first, was cancelled", need)
			}
		}
		say("cancelled; galley jobs resume %s goes on from step %d", j.ID, j.Progress.Checkpoint)
	}
	for _, a := range j.Attempts {
		if a.Error != nil && a.Outcome != "error" {
			say("attempt %d was %s at step %d: %s", a.Number, a.Outcome, a.Step, a.Error.Message)
		}
	}
	return e, nil
}

// first is the first job that waits for resources.
func first(p scheduler.Plan) string {
	for _, w := range p.Waiting {
		if w.Place == 1 {
			return w.Job
		}
	}
	return ""
}

func (c *Control) sayWaiting(j trainer.Job, s scheduler.Snapshot, w scheduler.Waiting, say func(string, ...any)) {
	unit, total := amount(w.Kind), s.Nodes[0].Capacity[w.Kind]
	by := strings.Join(w.By, ", ")
	switch w.Reason {
	case scheduler.Dependency:
		say("%s has to succeed first", by)
	case scheduler.BackOff:
		say("its last attempt got nowhere: the next one starts in %v, at %s",
			w.Until.Sub(c.now()).Round(time.Second), w.Until.Format(time.RFC3339))
	case scheduler.TooLarge:
		say("it needs %s, and this machine has %s: it cannot start here", unit(w.Need), unit(total))
	case scheduler.OverQuota:
		say("it needs %s, and the quota of %s is %s: it cannot start", unit(w.Need), tenantName(j.Tenant), unit(w.Free))
	case scheduler.Quota:
		say("it needs %s, and the quota of %s has %s left; %s use the rest", unit(w.Need), tenantName(j.Tenant), unit(w.Free), by)
	case scheduler.Reservation:
		say("what is free is kept for %s, which has waited longer or matters more", by)
	case scheduler.Capacity:
		switch w.Kind {
		case scheduler.CPU:
			say("it needs %d of %d CPUs, and %d are in use by %s", w.Need/1000, total/1000, (total-w.Free)/1000, by)
		default:
			say("it needs %s of %s, and %s are in use by %s", unit(w.Need), unit(total), unit(total-w.Free), by)
		}
		for _, r := range s.Running {
			if r.Leaving {
				say("%s has been asked to end", r.ID)
			}
		}
	}
}

func tenantName(name string) string {
	if name == "" {
		return "its tenant"
	}
	return name
}

// amount writes an amount of a kind.
func amount(k scheduler.Kind) func(int64) string {
	switch k {
	case scheduler.CPU:
		return func(n int64) string { return fmt.Sprintf("%d CPUs", n/1000) }
	case scheduler.Memory:
		return func(n int64) string { return fmt.Sprintf("%d MiB of memory", n>>20) }
	default:
		return func(n int64) string { return fmt.Sprintf("%d GPUs", n) }
	}
}

package control

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"galley/internal/store"
	"galley/trainer"
)

// maxJobs bounds the jobs that wait or run.
const maxJobs = 10_000

// jobs returns all jobs of a phase, the oldest first.
func (c *Control) jobs(ctx context.Context, phase trainer.Phase) ([]trainer.Job, error) {
	var all []trainer.Job
	q := store.JobQuery{Phases: []trainer.Phase{phase}, Limit: store.MaxList}
	for {
		some, err := c.store.Jobs(ctx, q)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if len(some) < store.MaxList || len(all) >= maxJobs {
			slices.Reverse(all)
			return all, nil
		}
		q.Before = some[len(some)-1].ID
	}
}

// schedule starts the jobs that wait, in the order of their submission, while
// there are CPUs for the first of them.
func (c *Control) schedule(ctx context.Context) error {
	if c.isClosing() {
		return nil
	}
	queued, err := c.jobs(ctx, trainer.Queued)
	if err != nil || len(queued) == 0 {
		return err
	}
	running, err := c.jobs(ctx, trainer.Running)
	if err != nil {
		return err
	}
	free := c.cpus - c.used(running)
	for _, j := range queued {
		need := c.need(j)
		if need > free {
			return nil
		}
		if _, err := c.step(ctx, j.ID, trainer.Placed{At: c.now()}, change{}); err != nil {
			return err
		}
		free -= need
	}
	return nil
}

// need is how many of the CPUs a job takes. One that asks for more than there
// are takes all.
func (c *Control) need(j trainer.Job) int { return max(1, min(j.Spec.Resources.CPUs, c.cpus)) }

func (c *Control) used(running []trainer.Job) int {
	n := 0
	for _, j := range running {
		n += c.need(j)
	}
	return n
}

// Explain says why a job is as it is: what it waits for, or how it ended.
func (c *Control) Explain(ctx context.Context, id string) (trainer.Job, []string, error) {
	j, err := c.store.Job(ctx, id)
	if err != nil {
		return j, nil, err
	}
	var reasons []string
	say := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	switch j.Phase {
	case trainer.Queued:
		if err := c.explainWaiting(ctx, j, say); err != nil {
			return j, nil, err
		}
	case trainer.Running:
		last := j.Attempts[len(j.Attempts)-1]
		switch {
		case last.Ended != nil:
			say("attempt %d has finished; its model is being published", last.Number)
		case j.Cancelling:
			say("attempt %d has been asked to stop, and stores a checkpoint", last.Number)
		case j.Progress.Steps == 0:
			say("attempt %d prepares its data and model", last.Number)
		default:
			say("attempt %d is at step %d of %d; its last checkpoint is of step %d", last.Number, j.Progress.Step, j.Progress.Steps, j.Progress.Checkpoint)
		}
	case trainer.Succeeded:
		say("published as %s", strings.Join(j.Versions, ", "))
	case trainer.Failed:
		if j.Error != nil {
			say("%s", j.Error.Error())
		}
		say("galley jobs resume %s goes on from step %d", j.ID, j.Progress.Checkpoint)
	case trainer.Cancelled:
		say("cancelled; galley jobs resume %s goes on from step %d", j.ID, j.Progress.Checkpoint)
	}
	for _, a := range j.Attempts {
		if a.Error != nil && a.Outcome != "error" {
			say("attempt %d was %s at step %d: %s", a.Number, a.Outcome, a.Step, a.Error.Message)
		}
	}
	return j, reasons, nil
}

func (c *Control) explainWaiting(ctx context.Context, j trainer.Job, say func(string, ...any)) error {
	running, err := c.jobs(ctx, trainer.Running)
	if err != nil {
		return err
	}
	queued, err := c.jobs(ctx, trainer.Queued)
	if err != nil {
		return err
	}
	if before := slices.IndexFunc(queued, func(q trainer.Job) bool { return q.ID == j.ID }); before > 0 {
		say("%d jobs are before it in the queue, the first is %s", before, queued[0].ID)
	}
	if used := c.used(running); c.need(j) > c.cpus-used {
		var names []string
		for _, r := range running[:min(len(running), 10)] {
			names = append(names, r.ID)
		}
		say("it needs %d of %d CPUs, and %d are in use by %s", c.need(j), c.cpus, used, strings.Join(names, ", "))
	} else {
		say("it starts at the next pass of the scheduler")
	}
	return nil
}

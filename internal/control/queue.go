package control

import (
	"context"
	"slices"

	"galley"
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
		if len(some) < store.MaxList || len(all) >= 2*maxJobs {
			slices.Reverse(all)
			return all, nil
		}
		q.Before = some[len(some)-1].ID
	}
}

// need is how many of the CPUs a job takes. One that asks for more than there
// are takes all.
func (c *Control) need(j trainer.Job) int { return max(1, min(j.Spec.Resources.CPUs, c.cpus)) }

// schedule plans what is to run on this machine, and has it happen: jobs
// start, others make room, those that wait for what will never be end.
func (c *Control) schedule(ctx context.Context) error {
	if c.isClosing() {
		return nil
	}
	if err := c.fill(ctx); err != nil {
		return err
	}
	if err := c.settle(ctx); err != nil {
		return err
	}
	if err := c.learnNeeds(ctx); err != nil {
		return err
	}
	for _, d := range c.board.decide(c.now()) {
		_, err := c.step(ctx, d.job, d.event, change{})
		if galley.CodeOf(err) == galley.FailedPrecondition {
			continue // it has changed since, and is planned for again
		}
		if err != nil {
			c.board.stir()
			return err
		}
	}
	return nil
}

// fill puts the jobs that waited before onto the board, at the first pass:
// the server answers before.
func (c *Control) fill(ctx context.Context) error {
	if c.filled {
		return nil
	}
	c.commits.Lock()
	defer c.commits.Unlock()
	queued, err := c.jobs(ctx, trainer.Queued)
	if err != nil {
		return err
	}
	for _, j := range queued {
		c.board.restore(j)
	}
	c.filled = true
	return nil
}

// settle reads the jobs whose last write failed: it may have been stored.
func (c *Control) settle(ctx context.Context) error {
	for _, id := range c.board.doubted() {
		if err := c.read(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (c *Control) read(ctx context.Context, id string) error {
	c.commits.Lock()
	defer c.commits.Unlock()
	j, err := c.store.Job(ctx, id)
	if err != nil && galley.CodeOf(err) != galley.NotFound {
		return err
	}
	if err == nil {
		c.board.put(j)
	}
	c.board.settled(id)
	return nil
}

// learnNeeds looks up jobs that others wait for and the board does not know.
// Who waits is on the board already, so what changes meanwhile is not missed.
func (c *Control) learnNeeds(ctx context.Context) error {
	for _, id := range c.board.unknown() {
		need, err := c.store.Job(ctx, id)
		if galley.CodeOf(err) == galley.NotFound {
			need, err = trainer.Job{ID: id, Generation: 1, Phase: trainer.Failed}, nil // it will never succeed
		}
		if err != nil {
			return err
		}
		c.board.note(need)
	}
	return nil
}

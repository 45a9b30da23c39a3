package control

import (
	"context"
	"encoding/json"
	"reflect"
	"time"

	"galley"
	"galley/internal/store"
	"galley/trainer"
)

// A change says who asked for a step, and what its effects carry.
type change struct {
	by     galley.Actor
	action string  // for the audit log; "" for progress
	staged *staged // with Finished: what is to be published
}

// The kinds of the effects of a job.
const (
	startAttempt = "start-attempt"
	stopAttempt  = "stop-attempt"
	publishModel = "publish-model"
	cleanUp      = "clean-up"
)

// An order is the payload of an effect of a job.
type order struct {
	Job     string  `json:"job"`
	Attempt int     `json:"attempt,omitempty"`
	Staged  *staged `json:"staged,omitempty"`
}

// maxConflicts bounds how often a step is repeated because others changed the
// job at the same time.
const maxConflicts = 100

// step lets an event happen to a job: it stores the change with its effects
// and tells who watches.
func (c *Control) step(ctx context.Context, id string, e trainer.Event, ch change) (trainer.Job, error) {
	for range maxConflicts {
		before, err := c.store.Job(ctx, id)
		if err != nil {
			return before, err
		}
		after, effects, err := trainer.Step(before, e)
		if err != nil {
			return before, err
		}
		if len(effects) == 0 && reflect.DeepEqual(before, after) {
			return before, nil // of an attempt that is past
		}
		commit := store.Commit{By: ch.by, At: after.Updated, Action: ch.action}
		if commit.Effects, err = orders(id, effects, ch.staged); err != nil {
			return before, err
		}
		after, err = c.save(ctx, after, commit)
		if galley.CodeOf(err) == galley.Aborted {
			continue
		}
		if err != nil {
			return before, err
		}
		c.stepped(before, after, len(effects) > 0)
		return after, nil
	}
	return trainer.Job{}, galley.Errorf(galley.Aborted, id, "changes too fast").WithRemedy("try again")
}

// stepped tells of a change that is stored to whom it concerns.
func (c *Control) stepped(before, after trainer.Job, effects bool) {
	c.changes.tell(after.ID)
	if before.Phase != after.Phase && after.Within != "" {
		c.pipelines.nudge(after.Within)
	}
	if after.Phase.Final() {
		c.federating.nudge(after.ID)
	}
	if effects || before.Phase != after.Phase {
		c.kick()
	}
}

// save stores a changed job and puts it onto the board.
func (c *Control) save(ctx context.Context, j trainer.Job, commit store.Commit) (trainer.Job, error) {
	c.commits.Lock()
	defer c.commits.Unlock()
	stored, err := c.store.SaveJob(ctx, j, commit)
	return stored, c.noted(stored, err)
}

// noted puts a job onto the board that was stored, or that may have been.
func (c *Control) noted(j trainer.Job, err error) error {
	switch galley.CodeOf(err) {
	case "":
		c.board.put(j)
	case galley.Aborted, galley.AlreadyExists, galley.NotFound, galley.InvalidArgument:
	default:
		c.board.doubt(j.ID)
	}
	return err
}

// insist repeats a step that must not be lost until it is stored, whatever
// keeps it from being stored, or the control's life ends: then the home heals
// when it is opened again.
func (c *Control) insist(id string, e trainer.Event, ch change) {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		_, err := c.step(c.life, id, e, ch)
		if err == nil {
			return
		}
		past := c.past(id, e)
		c.log.Error("job cannot be stored", "job", id, "event", reflect.TypeOf(e).Name(), "error", err, "again", !past)
		if past {
			return
		}
		select {
		case <-c.life.Done():
			return
		case <-time.After(wait):
		}
	}
}

// past reports whether there is no job any more that an event could happen to.
func (c *Control) past(id string, e trainer.Event) bool {
	j, err := c.store.Job(c.life, id)
	if err != nil {
		return galley.CodeOf(err) == galley.NotFound
	}
	_, _, err = trainer.Step(j, e)
	return err != nil
}

func orders(id string, effects []trainer.Effect, s *staged) ([]store.Effect, error) {
	var out []store.Effect
	for _, e := range effects {
		o, kind := order{Job: id}, ""
		switch e := e.(type) {
		case trainer.StartAttempt:
			kind, o.Attempt = startAttempt, e.Attempt
		case trainer.StopAttempt:
			kind, o.Attempt = stopAttempt, e.Attempt
		case trainer.PublishModel:
			kind, o.Attempt, o.Staged = publishModel, e.Attempt, s
		case trainer.CleanUp:
			kind = cleanUp
		default:
			return nil, galley.Errorf(galley.Internal, id, "unknown effect %T", e)
		}
		payload, err := json.Marshal(o)
		if err != nil {
			return nil, galley.Errorf(galley.Internal, id, "effect %s cannot be stored: %w", kind, err)
		}
		out = append(out, store.Effect{Kind: kind, Payload: payload})
	}
	return out, nil
}

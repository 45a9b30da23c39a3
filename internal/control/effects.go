package control

import (
	"context"
	"encoding/json"
	"errors"
	"os"

	"galley"
	"galley/internal/durable"
	"galley/internal/store"
	"galley/registry"
	"galley/trainer"
)

// effectKey names an effect.
type effectKey struct {
	aggregate string
	sequence  int64
}

// performPending performs the effects that are not done. Long ones go on
// beside; one that fails is tried again at a later pass.
func (c *Control) performPending(ctx context.Context) error {
	pending, err := c.store.PendingEffects(ctx, store.MaxList)
	if err != nil {
		return err
	}
	for _, e := range pending {
		c.perform(ctx, e)
	}
	return nil
}

func (c *Control) perform(ctx context.Context, e store.Effect) {
	key := effectKey{e.Aggregate, e.Sequence}
	c.mu.Lock()
	busy := c.busy[key] || c.closing
	if !busy {
		c.busy[key] = true
		c.running.Add(1)
	}
	c.mu.Unlock()
	if busy {
		return
	}
	finish := func(err error) {
		defer c.running.Done()
		if err == nil {
			err = c.store.EffectDone(context.WithoutCancel(ctx), e.Aggregate, e.Sequence)
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			c.log.Error("effect failed; it is tried again", "effect", e.Kind, "aggregate", e.Aggregate, "error", err)
		}
		c.mu.Lock()
		delete(c.busy, key)
		c.mu.Unlock()
	}
	if e.Kind == publishModel {
		go func() { finish(c.act(c.life, e)) }()
		return
	}
	finish(c.act(ctx, e))
}

// act performs one effect. One that a crash made stale does nothing.
func (c *Control) act(ctx context.Context, e store.Effect) error {
	if e.Kind == store.AliasMoved {
		var moved registry.Change
		if err := json.Unmarshal(e.Payload, &moved); err != nil {
			return galley.Errorf(galley.DataLoss, e.Aggregate, "its effect cannot be read: %w", err)
		}
		c.follow(ctx, moved)
		return nil
	}
	var o order
	if err := json.Unmarshal(e.Payload, &o); err != nil {
		return galley.Errorf(galley.DataLoss, e.Aggregate, "its effect cannot be read: %w", err)
	}
	switch e.Kind {
	case startAttempt:
		return c.start(ctx, o.Job, o.Attempt)
	case stopAttempt:
		c.mu.Lock()
		defer c.mu.Unlock()
		if a := c.attempts[o.Job]; a != nil && a.number == o.Attempt {
			a.stop()
		}
		return nil
	case publishModel:
		return c.publish(ctx, o)
	case cleanUp:
		return durable.WriteError(c.workDir(o.Job), os.RemoveAll(c.workDir(o.Job)))
	default:
		return galley.Errorf(galley.Internal, e.Aggregate, "%q is not an effect", e.Kind)
	}
}

// follow lets serving open what traffic goes to now. A version that cannot
// be opened is reported; requests for it will say why.
func (c *Control) follow(ctx context.Context, moved registry.Change) {
	if c.switched != nil {
		if err := c.switched(ctx, moved); err != nil {
			c.log.Error("a version cannot be opened for traffic", "model", moved.Model, "alias", moved.Alias, "version", moved.To, "error", err)
		}
	}
	c.movedProd(ctx, moved)
}

// runs reports whether the numbered attempt is the job's present one.
func runs(j trainer.Job, number int) bool {
	return j.Phase == trainer.Running && j.Attempt() == number && j.Attempts[number-1].Ended == nil
}

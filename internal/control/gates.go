package control

import (
	"context"

	"galley"
	"galley/evals"
	"galley/registry"
)

// A Gating is the gate of an alias.
type Gating struct {
	Model string
	Alias string
	Own   bool // it was set; else it is galley's
	Gate  *evals.Gate
}

// GateOf returns the gate of a model's alias: the one that was set, else for
// prod galley's own, for others none. A model that there is not has none to show.
func (c *Control) GateOf(ctx context.Context, model, alias string) (Gating, error) {
	if alias == "" {
		alias = registry.Prod
	}
	out := Gating{Model: model, Alias: alias}
	for subject, name := range map[string]string{"model": model, "alias": alias} {
		if err := galley.CheckName(subject, name); err != nil {
			return out, err
		}
	}
	g, ok, err := c.store.Gate(ctx, model, alias)
	if err != nil {
		return out, err
	}
	if ok {
		out.Own, out.Gate = true, &g
		return out, nil
	}
	if _, err := c.store.Outline(ctx, model, 0); err != nil { // there is no such model
		return out, err
	}
	if alias == registry.Prod {
		g = evals.DefaultGate()
		out.Gate = &g
	}
	return out, nil
}

// SetGate sets the gate of a model's alias; nil returns to galley's own.
func (c *Control) SetGate(ctx context.Context, by galley.Actor, model, alias string, g *evals.Gate) (Gating, error) {
	was, err := c.GateOf(ctx, model, alias)
	if err != nil {
		return was, err
	}
	if g != nil {
		if err := g.Validate(); err != nil {
			return was, err
		}
		if g.Data != "" {
			if _, err := c.dataset(ctx, g.Data); err != nil {
				return was, err
			}
		}
	}
	if err := c.store.SetGate(ctx, model, was.Alias, g, registry.Stamp{By: by, At: c.now()}); err != nil {
		return was, err
	}
	return c.GateOf(ctx, model, was.Alias)
}

package control

import (
	"context"
	"slices"

	"galley"
	"galley/internal/store"
	"galley/registry"
)

// History returns the last moves of an alias, or of all aliases of a model,
// the newest first; limit is of each alias.
func (c *Control) History(ctx context.Context, name, alias string, limit int) ([]registry.Change, error) {
	if limit < 0 || limit > store.MaxList {
		return nil, galley.Errorf(galley.OutOfRange, "limit", "%d is not from 0 to %d", limit, store.MaxList)
	}
	m, err := c.store.Outline(ctx, name, 0)
	if err != nil {
		return nil, err
	}
	var out []registry.Change
	for _, a := range m.Aliases {
		if alias != "" && a.Name != alias {
			continue
		}
		changes, err := c.store.History(ctx, name, a.Name, limit)
		if err != nil {
			return nil, err
		}
		out = append(out, changes...)
	}
	if _, known := m.Alias(alias); alias != "" && !known {
		return nil, galley.Errorf(galley.NotFound, name+":"+galley.Clip(alias, 80), "there is no such alias").
			WithRemedy("list them with galley models show %s", name)
	}
	slices.SortStableFunc(out, func(a, b registry.Change) int { return b.At.Compare(a.At) })
	return out, nil
}

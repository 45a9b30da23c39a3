package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"

	"galley"
	"galley/internal/store"
	"galley/registry"
)

// Promote implements registry.Store.
func (s *Store) Promote(ctx context.Context, r registry.Request) (registry.Change, error) {
	return s.move(ctx, r, promoteStep(ctx, r))
}

// promoteStep points an alias at a version that must be there.
func promoteStep(ctx context.Context, r registry.Request) step {
	return func(tx *sql.Tx, a registry.Alias) (registry.Alias, registry.Change, error) {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM versions WHERE name = ? AND number = ?`, r.Model, r.Target).Scan(&n); err != nil {
			return a, registry.Change{}, err
		}
		if n == 0 {
			return a, registry.Change{}, notFound(galley.Ref{Name: r.Model, Version: r.Target}.String(), "version").
				WithRemedy("list them with galley models show %s", r.Model)
		}
		return registry.Promote(a, r)
	}
}

// Rollback implements registry.Store.
func (s *Store) Rollback(ctx context.Context, r registry.Request) (registry.Change, error) {
	return s.move(ctx, r, func(_ *sql.Tx, a registry.Alias) (registry.Alias, registry.Change, error) {
		if a.Generation == 0 {
			return a, registry.Change{}, notFound(r.Model+":"+r.Alias, "alias").
				WithRemedy("list them with galley models show %s", r.Model)
		}
		return registry.Rollback(a, r)
	})
}

type step func(*sql.Tx, registry.Alias) (registry.Alias, registry.Change, error)

// move steps an alias in a transaction of its own.
func (s *Store) move(ctx context.Context, r registry.Request, f step) (registry.Change, error) {
	var change registry.Change
	err := s.update(ctx, r.Model+":"+r.Alias, func(tx *sql.Tx) error {
		var err error
		change, err = moveIn(ctx, tx, r, f)
		return err
	})
	if err != nil {
		return registry.Change{}, err
	}
	return change, nil
}

// moveIn loads an alias, steps it and stores it with its change, its effect and
// the audit entry. A step that changes nothing stores nothing.
func moveIn(ctx context.Context, tx *sql.Tx, r registry.Request, f step) (registry.Change, error) {
	if err := r.Check(); err != nil {
		return registry.Change{}, err
	}
	before, err := scanAlias(tx.QueryRowContext(ctx, selectAlias+` WHERE model = ? AND alias = ?`, r.Model, r.Alias))
	if errors.Is(err, sql.ErrNoRows) {
		before, err = registry.Alias{Model: r.Model, Name: r.Alias}, nil
	}
	if err != nil {
		return registry.Change{}, err
	}
	after, change, err := f(tx, before)
	if err != nil || after.Generation == before.Generation {
		return change, err
	}
	return change, saveAlias(ctx, tx, r.Model+":"+r.Alias, after, change)
}

func saveAlias(ctx context.Context, tx *sql.Tx, subject string, a registry.Alias, c registry.Change) error {
	previous, err := encode(append([]int{}, a.Previous...))
	if err != nil {
		return err
	}
	body, err := encode(c)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO aliases (model, alias, target, generation, previous) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (model, alias) DO UPDATE SET target = excluded.target, generation = excluded.generation, previous = excluded.previous`,
		a.Model, a.Name, a.Target, a.Generation, string(previous))
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO alias_changes (model, alias, generation, body) VALUES (?, ?, ?, ?)`, a.Model, a.Name, a.Generation, body)
	if err != nil {
		return err
	}
	detail := galley.Ref{Name: a.Model, Version: a.Target}.String()
	if c.Reason != "" {
		detail += ": " + c.Reason
	}
	return commit(ctx, tx, "alias/"+a.Model+"/"+a.Name, subject, a.Generation, store.Commit{
		By: c.By, At: c.At, Action: "alias." + string(c.Move), Detail: detail,
		Effects: []store.Effect{{Kind: store.AliasMoved, Payload: body}},
	})
}

const selectAlias = `SELECT model, alias, target, generation, previous FROM aliases`

func scanAlias(row interface{ Scan(...any) error }) (registry.Alias, error) {
	var a registry.Alias
	var previous string
	if err := row.Scan(&a.Model, &a.Name, &a.Target, &a.Generation, &previous); err != nil {
		return a, err
	}
	if err := json.Unmarshal([]byte(previous), &a.Previous); err != nil {
		return a, galley.Errorf(galley.DataLoss, a.Model+":"+a.Name, "the stored row cannot be read: %w", err)
	}
	if len(a.Previous) == 0 {
		a.Previous = nil
	}
	return a, nil
}

// History implements registry.Store.
func (s *Store) History(ctx context.Context, model, alias string, limit int) ([]registry.Change, error) {
	var out []registry.Change
	err := s.view(ctx, model+":"+alias, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT body FROM alias_changes WHERE model = ? AND alias = ? ORDER BY generation DESC LIMIT ?`, model, alias, bounded(limit))
		return each(rows, err, func() error {
			var body []byte
			if err := rows.Scan(&body); err != nil {
				return err
			}
			var c registry.Change
			err := decode(model+":"+alias, body, &c)
			out = append(out, c)
			return err
		})
	})
	return out, err
}

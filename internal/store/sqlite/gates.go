package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"galley"
	"galley/evals"
	"galley/internal/store"
	"galley/registry"
)

// Gate returns the gate that was set for an alias of a model; false if none
// was.
func (s *Store) Gate(ctx context.Context, model, alias string) (g evals.Gate, ok bool, err error) {
	subject := model + ":" + alias
	err = s.view(ctx, subject, func(tx *sql.Tx) error {
		var body []byte
		err := tx.QueryRowContext(ctx, `SELECT body FROM gates WHERE model = ? AND alias = ?`, model, alias).Scan(&body)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		ok = true
		return decode(subject, body, &g)
	})
	return g, ok, err
}

// SetGate sets the gate of an alias of a model, which must have a version;
// nil returns to galley's own.
func (s *Store) SetGate(ctx context.Context, model, alias string, g *evals.Gate, by registry.Stamp) error {
	subject := model + ":" + alias
	return s.update(ctx, subject, func(tx *sql.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM versions WHERE name = ? LIMIT 1)`, model).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			return notFound(model, "model").WithRemedy("list them with galley models list")
		}
		detail := "galley's own"
		if g == nil {
			if _, err := tx.ExecContext(ctx, `DELETE FROM gates WHERE model = ? AND alias = ?`, model, alias); err != nil {
				return err
			}
		} else {
			body, err := encode(g)
			if err != nil {
				return err
			}
			detail = string(galley.DigestBytes(body))
			_, err = tx.ExecContext(ctx, `INSERT INTO gates (model, alias, body) VALUES (?, ?, ?) ON CONFLICT (model, alias) DO UPDATE SET body = excluded.body`, model, alias, body)
			if err != nil {
				return err
			}
		}
		return commit(ctx, tx, "model/"+model, subject, 0, store.Commit{By: by.By, At: by.At, Action: "gate.set", Detail: detail})
	})
}

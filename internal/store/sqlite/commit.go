package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"galley"
	"galley/internal/audit"
	"galley/internal/store"
)

// maxEffects is the most effects of one change. A change's effects are
// numbered within its generation.
const maxEffects = 256

// commit writes what goes with a change into its transaction. generation is
// the aggregate's after the change.
func commit(ctx context.Context, tx *sql.Tx, aggregate, subject string, generation int64, c store.Commit) error {
	if len(c.Effects) > maxEffects {
		return galley.Errorf(galley.Internal, subject, "%d effects of one change", len(c.Effects))
	}
	if err := own(ctx, tx, aggregate, subject, generation); err != nil {
		return err
	}
	for i, e := range c.Effects {
		_, err := tx.ExecContext(ctx, `INSERT INTO effects (aggregate, sequence, kind, payload) VALUES (?, ?, ?, ?)`,
			aggregate, generation*maxEffects+int64(i), e.Kind, []byte(e.Payload))
		if err != nil {
			return err
		}
	}
	if c.Action == "" {
		return nil
	}
	origin := galley.OriginOf(ctx)
	return record(ctx, tx, audit.Entry{
		At: c.At, Actor: c.By, Action: c.Action, Subject: subject, Detail: c.Detail, Address: origin.Address, Token: origin.Token,
	})
}

// PendingEffects returns up to limit effects that are not done, in the order
// of their commits.
func (s *Store) PendingEffects(ctx context.Context, limit int) ([]store.Effect, error) {
	var out []store.Effect
	err := s.view(ctx, "effects", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT aggregate, sequence, kind, payload FROM effects WHERE done = 0 ORDER BY id LIMIT ?`, bounded(limit))
		return each(rows, err, func() error {
			var e store.Effect
			var payload []byte
			err := rows.Scan(&e.Aggregate, &e.Sequence, &e.Kind, &payload)
			if len(payload) > 0 {
				e.Payload = payload
			}
			out = append(out, e)
			return err
		})
	})
	return out, err
}

// keptEffects is about how many effects that are done stay, for who looks
// into what happened.
const keptEffects = 1000

// EffectDone says that an effect has been performed. Saying it again changes
// nothing, while the effect is kept.
func (s *Store) EffectDone(ctx context.Context, aggregate string, sequence int64) error {
	return s.update(ctx, aggregate, func(tx *sql.Tx) error {
		var id int64
		err := tx.QueryRowContext(ctx, `UPDATE effects SET done = 1 WHERE aggregate = ? AND sequence = ? RETURNING id`, aggregate, sequence).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound(aggregate, "effect")
		}
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM effects WHERE done = 1 AND id <= ?`, id-keptEffects)
		return err
	})
}

// each calls f for every row and closes rows; err is that of the query.
func each(rows *sql.Rows, err error, f func() error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// bounded is a limit within what one answer may hold.
func bounded(limit int) int {
	if limit <= 0 {
		return 100
	}
	return min(limit, store.MaxList)
}

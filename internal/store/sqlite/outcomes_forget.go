package sqlite

import (
	"context"
	"database/sql"
	"time"

	"galley/experiment"
)

// forgottenAtOnce is how many outcomes a transaction removes at most: those who
// write wait for it.
const forgottenAtOnce = 2000

// Both name the rows by the whole key. Without statistics the other index, by the
// experiment alone, looks as good for the first.
const (
	forgetOutside = `DELETE FROM outcomes WHERE experiment = 0 AND (nonce, predicted) IN
		(SELECT nonce, predicted FROM outcomes INDEXED BY outcomes_outside WHERE experiment = 0 AND predicted < ?1 LIMIT ?2)`
	forgetEnded = `DELETE FROM outcomes WHERE experiment = ?1 AND (nonce, predicted) IN
		(SELECT nonce, predicted FROM outcomes WHERE experiment = ?1 LIMIT ?2)`
)

// ForgetOutcomes removes the outcomes, row by row, of experiments that ended
// before a time, and of predictions outside of experiments that were made before
// it, and returns how many those were. The totals of experiments stay. No outcome
// of such a prediction may be recorded afterwards: it would count again.
func (s *Store) ForgetOutcomes(ctx context.Context, before time.Time) (int64, error) {
	all, err := s.forget(ctx, forgetOutside, before.UnixMilli())
	if err != nil {
		return all, err
	}
	ended, err := s.endedWithOutcomes(ctx, before)
	if err != nil {
		return all, err
	}
	for _, id := range ended {
		n, err := s.forget(ctx, forgetEnded, id)
		all += n
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// forget runs a statement that removes a part at a time until nothing is left.
func (s *Store) forget(ctx context.Context, statement string, arg int64) (all int64, err error) {
	for {
		var n int64
		err := s.update(ctx, "outcomes", func(tx *sql.Tx) error {
			r, err := tx.ExecContext(ctx, statement, arg, forgottenAtOnce)
			if err == nil {
				n, err = r.RowsAffected()
			}
			return err
		})
		if err != nil {
			return all, err
		}
		if all += n; n < forgottenAtOnce {
			return all, nil
		}
	}
}

// endedWithOutcomes are the experiments that ended before a time and have
// outcomes.
func (s *Store) endedWithOutcomes(ctx context.Context, before time.Time) (ids []int64, err error) {
	err = s.view(ctx, "experiments", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT name, body FROM experiments e WHERE state <> ? AND EXISTS
			(SELECT 1 FROM outcomes o WHERE o.experiment = e.id)`, string(experiment.Running))
		return each(rows, err, func() error {
			var name string
			var body []byte
			if err := rows.Scan(&name, &body); err != nil {
				return err
			}
			var e experiment.Experiment
			if err := decode(name, body, &e); err != nil {
				return err
			}
			if e.Ended != nil && e.Ended.Before(before) {
				ids = append(ids, e.ID)
			}
			return nil
		})
	})
	return ids, err
}

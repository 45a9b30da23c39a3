package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"galley/experiment"
	"galley/internal/store"
)

// A totalsKey is a row of experiment_totals.
type totalsKey struct {
	experiment uint32
	stage      uint8
	arm        experiment.Arm
}

// totalsChange is what is added to such a row.
type totalsChange struct {
	experiment.Counts
	outcomes, sum, keys, keySum int64
}

// CountAnswers adds to the counts of experiments.
func (s *Store) CountAnswers(ctx context.Context, counts []store.ExperimentCounts) error {
	changes := map[totalsKey]*totalsChange{}
	for _, c := range counts {
		at := change(changes, totalsKey{c.Experiment, c.Stage, c.Arm})
		at.Requests += c.Requests
		at.Errors += c.Errors
		at.Empty += c.Empty
		// What a shadow is measured by needs no outcome from outside.
		at.outcomes += c.Compared
		at.sum += c.Agreed * store.Micros
		at.keys += c.Compared
		at.keySum += c.Agreed * store.Micros
	}
	return s.update(ctx, "experiments", func(tx *sql.Tx) error { return addTotals(ctx, tx, changes) })
}

// RecordOutcomes records outcomes, all or none, in their order, and says of
// each what that did. The last outcome of a prediction is the one that counts;
// however often it is sent, it counts once.
func (s *Store) RecordOutcomes(ctx context.Context, outcomes []store.Outcome) ([]store.OutcomeState, error) {
	states := make([]store.OutcomeState, len(outcomes))
	err := s.update(ctx, "outcomes", func(tx *sql.Tx) error {
		w, err := prepareOutcomes(ctx, tx)
		if err != nil {
			return err
		}
		defer w.close()
		changes := map[totalsKey]*totalsChange{}
		for i, o := range outcomes {
			if states[i], err = w.record(ctx, o, changes); err != nil {
				return err
			}
		}
		return addTotals(ctx, tx, changes)
	})
	return states, err
}

// An outcomeWriter has the statements of a transaction that records outcomes.
type outcomeWriter struct{ read, key, insert, update *sql.Stmt }

func prepareOutcomes(ctx context.Context, tx *sql.Tx) (w outcomeWriter, err error) {
	for _, s := range []struct {
		to    **sql.Stmt
		query string
	}{
		{&w.read, `SELECT outcome, value, first FROM outcomes WHERE experiment = ? AND nonce = ? AND predicted = ?`},
		{&w.key, `SELECT 1 FROM outcomes WHERE experiment = ? AND place = ? LIMIT 1`},
		{&w.insert, `INSERT INTO outcomes (experiment, nonce, predicted, place, stage, arm, model, version, first, outcome, value, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`},
		{&w.update, `UPDATE outcomes SET outcome = ?, value = ?, at = ? WHERE experiment = ? AND nonce = ? AND predicted = ?`},
	} {
		if *s.to, err = tx.PrepareContext(ctx, s.query); err != nil {
			w.close()
			return w, err
		}
	}
	return w, nil
}

func (w outcomeWriter) close() {
	for _, s := range []*sql.Stmt{w.read, w.key, w.insert, w.update} {
		if s != nil {
			// Of a transaction that ends anyway.
			_ = s.Close()
		}
	}
}

func (w outcomeWriter) record(ctx context.Context, o store.Outcome, changes map[totalsKey]*totalsChange) (store.OutcomeState, error) {
	p := o.Prediction
	nonce, predicted, place := int64(p.Nonce), p.At.UnixMilli(), int64(p.Place)
	var text string
	var value, first int64
	err := w.read.QueryRowContext(ctx, p.Experiment, nonce, predicted).Scan(&text, &value, &first)
	switch {
	case err == nil && text == o.Text && value == o.Micros:
		return store.OutcomeUnchanged, nil
	case err == nil:
		if _, err := w.update.ExecContext(ctx, o.Text, o.Micros, unix(o.At), p.Experiment, nonce, predicted); err != nil {
			return "", err
		}
		count(changes, p, totalsChange{sum: o.Micros - value, keySum: first * (o.Micros - value)})
		return store.OutcomeCorrected, nil
	case !errors.Is(err, sql.ErrNoRows):
		return "", err
	}
	var seen int
	err = w.key.QueryRowContext(ctx, p.Experiment, place).Scan(&seen)
	if errors.Is(err, sql.ErrNoRows) {
		first, err = 1, nil
	}
	if err != nil {
		return "", err
	}
	_, err = w.insert.ExecContext(ctx, p.Experiment, nonce, predicted, place, p.Stage, p.Arm, p.Model[:], p.Version, first, o.Text, o.Micros, unix(o.At))
	if err != nil {
		return "", err
	}
	count(changes, p, totalsChange{outcomes: 1, sum: o.Micros, keys: first, keySum: first * o.Micros})
	return store.OutcomeRecorded, nil
}

func change(changes map[totalsKey]*totalsChange, key totalsKey) *totalsChange {
	if changes[key] == nil {
		changes[key] = &totalsChange{}
	}
	return changes[key]
}

// count notes a change of the totals of a prediction's arm.
func count(changes map[totalsKey]*totalsChange, p experiment.Prediction, c totalsChange) {
	if p.Experiment == 0 {
		return
	}
	at := change(changes, totalsKey{p.Experiment, p.Stage, p.Arm})
	at.outcomes += c.outcomes
	at.sum += c.sum
	at.keys += c.keys
	at.keySum += c.keySum
}

func addTotals(ctx context.Context, tx *sql.Tx, changes map[totalsKey]*totalsChange) error {
	for key, c := range changes {
		_, err := tx.ExecContext(ctx, `INSERT INTO experiment_totals (experiment, stage, arm, requests, errors, empty, outcomes, sum, keys, key_sum)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (experiment, stage, arm) DO UPDATE SET requests = requests + excluded.requests, errors = errors + excluded.errors,
			empty = empty + excluded.empty, outcomes = outcomes + excluded.outcomes, sum = sum + excluded.sum,
			keys = keys + excluded.keys, key_sum = key_sum + excluded.key_sum`,
			key.experiment, key.stage, key.arm, c.Requests, c.Errors, c.Empty, c.outcomes, c.sum, c.keys, c.keySum)
		if err != nil {
			return err
		}
	}
	return nil
}

// PredictionKey returns the key that prediction ids are signed with. The first
// call makes it.
func (s *Store) PredictionKey(ctx context.Context) ([]byte, error) {
	var key []byte
	err := s.update(ctx, "prediction key", func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT key FROM prediction_key`).Scan(&key)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		key = experiment.NewKey()
		_, err = tx.ExecContext(ctx, `INSERT INTO prediction_key (id, key) VALUES (1, ?)`, key)
		return err
	})
	return key, err
}

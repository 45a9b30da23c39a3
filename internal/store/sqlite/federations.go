package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"galley"
	"galley/federation"
	"galley/internal/store"
	"galley/trainer"
)

// CreateFederation stores a new job with the federation that it runs, and
// returns both with generation 1. There may be no other job that runs a
// federation of the same name.
func (s *Store) CreateFederation(ctx context.Context, j trainer.Job, f federation.Federation, c store.Commit) (trainer.Job, store.Federation, error) {
	r := store.Federation{Federation: f, Job: j.ID, Generation: 1}
	body, holds, err := encodeFederation(r)
	if err != nil {
		return j, r, err
	}
	err = s.update(ctx, j.ID, func(tx *sql.Tx) error {
		var err error
		if j, err = createJob(ctx, tx, j, c); err != nil {
			return err
		}
		if err := checkSole(ctx, tx, r); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO federations (job, name, state, staged, generation, holds, body) VALUES (?, ?, ?, 0, ?, ?, ?)`,
			r.Job, f.Terms.Federation, string(f.State), r.Generation, holds, body)
		return err
	})
	return j, r, err
}

// checkSole refuses a second job that runs a federation of one name.
func checkSole(ctx context.Context, tx *sql.Tx, f store.Federation) error {
	var other string
	err := tx.QueryRowContext(ctx, `SELECT f.job FROM federations f JOIN jobs j ON j.id = f.job WHERE f.name = ? AND f.job <> ? AND j.phase = ?`,
		f.Terms.Federation, f.Job, string(trainer.Running)).Scan(&other)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return galley.Errorf(galley.FailedPrecondition, "federation", "%s runs already, as job %s", f.Terms.Federation, other).
		WithRemedy("wait for it, or cancel it: galley jobs cancel %s", other)
}

// encodeFederation writes a federation's row: all of it, and the blobs that it
// still needs.
func encodeFederation(f store.Federation) (body []byte, holds string, err error) {
	if body, err = encode(f.Federation); err != nil {
		return nil, "", err
	}
	held := []galley.Digest{f.Base}
	if f.Round != nil {
		held = append(held, f.Round.Holds()...)
	}
	return body, fmt.Sprint(held), nil
}

// SaveFederation stores a changed federation with what changes with it, and
// returns it with its next generation, as its job. Both must have the
// generations that are stored; if another change came first, the error is
// Aborted.
func (s *Store) SaveFederation(ctx context.Context, ch store.FederationChange) (store.Federation, *trainer.Job, error) {
	f, j := ch.Federation, ch.Job
	expected := f.Generation
	f.Generation++
	body, holds, err := encodeFederation(f)
	if err != nil {
		return f, j, err
	}
	err = s.update(ctx, f.Job, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, `UPDATE federations SET state = ?, staged = ?, generation = ?, holds = ?, body = ? WHERE job = ? AND generation = ?`,
			string(f.State), f.Staged, f.Generation, holds, body, f.Job, expected)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return galley.Errorf(galley.Aborted, f.Job, "its federation is not at generation %d: it changed meanwhile", expected).
				WithRemedy("read it again and repeat")
		}
		for _, round := range ch.Rounds {
			body, err := encode(round)
			if err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, `INSERT INTO rounds (job, number, attempt, digest, body) VALUES (?, ?, ?, ?, ?)`,
				f.Job, round.Number, round.Attempt, string(galley.DigestBytes(body)), body)
			if err != nil {
				return err
			}
		}
		if err := commit(ctx, tx, "federation/"+f.Job, f.Job, f.Generation, ch.Commit); err != nil {
			return err
		}
		if ch.Job != nil {
			saved, err := saveJob(ctx, tx, *ch.Job, ch.JobCommit)
			if err != nil {
				return err
			}
			if saved.Phase == trainer.Running {
				if err := checkSole(ctx, tx, f); err != nil {
					return err
				}
			}
			j = &saved
		}
		return nil
	})
	return f, j, err
}

// Federation returns what a job of kind Federate runs.
func (s *Store) Federation(ctx context.Context, job string) (store.Federation, error) {
	f := store.Federation{Job: job}
	err := s.view(ctx, job, func(tx *sql.Tx) error {
		var body []byte
		err := tx.QueryRowContext(ctx, `SELECT staged, generation, body FROM federations WHERE job = ?`, job).Scan(&f.Staged, &f.Generation, &body)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound(galley.Clip(job, 80), "job of kind Federate").WithRemedy("list jobs with galley jobs list")
		}
		if err != nil {
			return err
		}
		return decode(job, body, &f.Federation)
	})
	return f, err
}

// Rounds returns up to limit attempts at a job's rounds that have ended, the
// newest first, and no more than MaxRecords bytes of them.
func (s *Store) Rounds(ctx context.Context, job string, limit int) ([]store.Round, error) {
	var out []store.Round
	size := 0
	err := s.view(ctx, job, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT digest, body FROM rounds WHERE job = ? ORDER BY number DESC, attempt DESC LIMIT ?`, job, bounded(limit))
		err = each(rows, err, func() error {
			r, n, err := scanRound(rows, job)
			if size += n; size > store.MaxRecords && len(out) > 0 {
				return errEnough
			}
			out = append(out, r)
			return err
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	})
	return out, err
}

// errEnough ends the reading of rows.
var errEnough = errors.New("enough")

// Round returns an attempt at a round that has ended; the last one, if attempt
// is 0.
func (s *Store) Round(ctx context.Context, job string, number, attempt int) (store.Round, error) {
	var r store.Round
	err := s.view(ctx, job, func(tx *sql.Tx) error {
		var err error
		r, _, err = scanRound(tx.QueryRowContext(ctx, `SELECT digest, body FROM rounds WHERE job = ?1 AND number = ?2 AND (?3 = 0 OR attempt = ?3)
			ORDER BY attempt DESC LIMIT 1`, job, number, attempt), job)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound(galley.Clip(job, 80), fmt.Sprintf("round %d that has ended", number)).
				WithRemedy("list them with galley federation rounds %s", galley.Clip(job, 80))
		}
		return err
	})
	return r, err
}

func scanRound(row interface{ Scan(...any) error }, job string) (r store.Round, size int, err error) {
	var body []byte
	if err := row.Scan(&r.Digest, &body); err != nil {
		return r, 0, err
	}
	return r, len(body), decode(job, body, &r.Round)
}

// ClosedRounds calls f with each round that became part of a job's model, in
// their order.
func (s *Store) ClosedRounds(ctx context.Context, job string, f func(store.Round) error) error {
	return s.view(ctx, job, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT digest, body FROM rounds WHERE job = ? ORDER BY number, attempt`, job)
		return each(rows, err, func() error {
			r, _, err := scanRound(rows, job)
			if err != nil || r.Phase != federation.Closed {
				return err
			}
			return f(r)
		})
	})
}

// AmendRound stores what came for a round after it had ended. The record must
// have the digest that it was read with, and its federation must run: what a
// version came from stays as its lineage names it.
func (s *Store) AmendRound(ctx context.Context, job string, r store.Round) (store.Round, error) {
	before := r.Digest
	body, err := encode(r.Round)
	if err != nil {
		return r, err
	}
	r.Digest = galley.DigestBytes(body)
	return r, s.update(ctx, job, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `UPDATE rounds SET digest = ?, body = ? WHERE job = ? AND number = ? AND attempt = ? AND digest = ?
			AND EXISTS (SELECT 1 FROM federations f WHERE f.job = rounds.job AND f.state = ?)`,
			string(r.Digest), body, job, r.Number, r.Attempt, string(before), string(federation.Running))
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return galley.Errorf(galley.Aborted, job, "the record of round %d changed meanwhile, or its federation has ended", r.Number)
	})
}

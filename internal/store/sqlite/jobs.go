package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"galley"
	"galley/internal/store"
	"galley/trainer"
)

// maxID is the longest job ID, in bytes.
const maxID = 100

// CreateJob stores a new job and returns it with generation 1. If there is a
// job with its ID, the error is AlreadyExists.
func (s *Store) CreateJob(ctx context.Context, j trainer.Job, c store.Commit) (trainer.Job, error) {
	stored := j
	err := s.update(ctx, j.ID, func(tx *sql.Tx) error {
		var err error
		stored, err = createJob(ctx, tx, j, c)
		return err
	})
	return stored, err
}

func createJob(ctx context.Context, tx *sql.Tx, j trainer.Job, c store.Commit) (trainer.Job, error) {
	if j.ID == "" || len(j.ID) > maxID {
		return j, galley.Errorf(galley.InvalidArgument, "job", "an ID has 1 to %d bytes, not %d", maxID, len(j.ID))
	}
	j.Generation = 1
	body, err := json.Marshal(j)
	if err != nil {
		return j, galley.Errorf(galley.InvalidArgument, j.ID, "cannot be stored: %w", err)
	}
	r, err := tx.ExecContext(ctx, `INSERT INTO jobs (id, phase, spec_digest, generation, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		j.ID, string(j.Phase), string(j.SpecDigest), j.Generation, body)
	if err != nil {
		return j, err
	}
	if n, err := r.RowsAffected(); err != nil {
		return j, err
	} else if n == 0 {
		return j, galley.Errorf(galley.AlreadyExists, j.ID, "there is such a job already")
	}
	return j, commit(ctx, tx, "job/"+j.ID, j.ID, j.Generation, c)
}

// SaveJob stores a changed job and returns it with its next generation. The
// job must have the generation that is stored; if another change came first,
// the error is Aborted, and the caller reads the job and steps again.
func (s *Store) SaveJob(ctx context.Context, j trainer.Job, c store.Commit) (trainer.Job, error) {
	stored := j
	err := s.update(ctx, j.ID, func(tx *sql.Tx) error {
		var err error
		stored, err = saveJob(ctx, tx, j, c)
		return err
	})
	return stored, err
}

func saveJob(ctx context.Context, tx *sql.Tx, j trainer.Job, c store.Commit) (trainer.Job, error) {
	expected := j.Generation
	j.Generation++
	body, err := json.Marshal(j)
	if err != nil {
		return j, galley.Errorf(galley.InvalidArgument, j.ID, "cannot be stored: %w", err)
	}
	r, err := tx.ExecContext(ctx, `UPDATE jobs SET phase = ?, spec_digest = ?, generation = ?, body = ? WHERE id = ? AND generation = ?`,
		string(j.Phase), string(j.SpecDigest), j.Generation, body, j.ID, expected)
	if err != nil {
		return j, err
	}
	if n, err := r.RowsAffected(); err != nil {
		return j, err
	} else if n == 0 {
		return j, jobConflict(ctx, tx, j.ID, expected)
	}
	return j, commit(ctx, tx, "job/"+j.ID, j.ID, j.Generation, c)
}

func jobConflict(ctx context.Context, tx *sql.Tx, id string, expected int64) error {
	var have int64
	err := tx.QueryRowContext(ctx, `SELECT generation FROM jobs WHERE id = ?`, id).Scan(&have)
	if errors.Is(err, sql.ErrNoRows) {
		return noJob(id)
	}
	if err != nil {
		return err
	}
	return galley.Errorf(galley.Aborted, id, "is at generation %d, not %d: it changed meanwhile", have, expected).
		WithRemedy("read it again and repeat")
}

func noJob(id string) error {
	return notFound(id, "job").WithRemedy("list them with galley jobs list")
}

// Job returns a job.
func (s *Store) Job(ctx context.Context, id string) (trainer.Job, error) {
	var j trainer.Job
	err := s.view(ctx, id, func(tx *sql.Tx) error {
		var body []byte
		err := tx.QueryRowContext(ctx, `SELECT body FROM jobs WHERE id = ?`, id).Scan(&body)
		if errors.Is(err, sql.ErrNoRows) {
			return noJob(id)
		}
		if err != nil {
			return err
		}
		return decode(id, body, &j)
	})
	return j, err
}

// Jobs returns jobs, the newest first.
func (s *Store) Jobs(ctx context.Context, q store.JobQuery) ([]trainer.Job, error) {
	var where []string
	var args []any
	if len(q.Phases) > 0 {
		where = append(where, `phase IN (?`+strings.Repeat(`, ?`, len(q.Phases)-1)+`)`)
		for _, p := range q.Phases {
			args = append(args, string(p))
		}
	}
	if q.Before != "" {
		where = append(where, `number < (SELECT number FROM jobs WHERE id = ?)`)
		args = append(args, q.Before)
	}
	if q.SpecDigest != "" {
		where = append(where, `spec_digest = ?`)
		args = append(args, string(q.SpecDigest))
	}
	query := `SELECT id, body FROM jobs`
	if len(where) > 0 {
		query += ` WHERE ` + strings.Join(where, ` AND `)
	}
	query += ` ORDER BY number DESC LIMIT ?`
	args = append(args, bounded(q.Limit))
	var out []trainer.Job
	err := s.view(ctx, "jobs", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, query, args...)
		return each(rows, err, func() error {
			var id string
			var body []byte
			if err := rows.Scan(&id, &body); err != nil {
				return err
			}
			var j trainer.Job
			if err := decode(id, body, &j); err != nil {
				return err
			}
			out = append(out, j)
			return nil
		})
	})
	return out, err
}

// CountJobs returns how many jobs are in a phase.
func (s *Store) CountJobs(ctx context.Context, phase trainer.Phase) (int, error) {
	var n int
	err := s.view(ctx, "jobs", func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT count(*) FROM jobs WHERE phase = ?`, string(phase)).Scan(&n)
	})
	return n, err
}

// AppendLines adds lines to a job's log, of which the last MaxLines are kept.
// They get the next numbers.
func (s *Store) AppendLines(ctx context.Context, job string, lines []store.Line) error {
	if len(lines) == 0 {
		return nil
	}
	if len(lines) > store.MaxLines {
		lines = lines[len(lines)-store.MaxLines:]
	}
	return s.update(ctx, job, func(tx *sql.Tx) error {
		var last int64
		if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(number), 0) FROM job_lines WHERE job = ?`, job).Scan(&last); err != nil {
			return err
		}
		if last == 0 {
			var n int
			if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM jobs WHERE id = ?`, job).Scan(&n); err != nil {
				return err
			}
			if n == 0 {
				return noJob(job)
			}
		}
		insert, err := tx.PrepareContext(ctx, `INSERT INTO job_lines (job, number, at, text) VALUES (?, ?, ?, ?)`)
		if err != nil {
			return err
		}
		defer insert.Close()
		for _, line := range lines {
			last++
			if _, err := insert.ExecContext(ctx, job, last, unix(line.At), cut(line.Text)); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM job_lines WHERE job = ? AND number <= ?`, job, last-store.MaxLines)
		return err
	})
}

// cut bounds a line and makes it valid UTF-8.
func cut(text string) string {
	if len(text) > store.MaxLine {
		text = text[:store.MaxLine]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// Lines returns up to limit lines of a job's log in their order, from the
// first one after the number given.
func (s *Store) Lines(ctx context.Context, job string, after int64, limit int) ([]store.Line, error) {
	var out []store.Line
	err := s.view(ctx, job, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT number, at, text FROM job_lines WHERE job = ? AND number > ? ORDER BY number LIMIT ?`, job, after, bounded(limit))
		return each(rows, err, func() error {
			var line store.Line
			var at int64
			err := rows.Scan(&line.Number, &at, &line.Text)
			line.At = fromUnix(at)
			out = append(out, line)
			return err
		})
	})
	return out, err
}

// decode reads the body of a row.
func decode(subject string, body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return galley.Errorf(galley.DataLoss, subject, "the stored row cannot be read: %w", err)
	}
	return nil
}

// encode writes the body of a row.
func encode(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("cannot be stored: %w", err)
	}
	return body, nil
}

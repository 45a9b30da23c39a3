package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"galley"
	"galley/internal/store"
	"galley/registry"
)

// Register implements registry.Store.
func (s *Store) Register(ctx context.Context, v registry.Version) (stored registry.Version, created bool, err error) {
	if v, err = v.Complete(); err != nil {
		return registry.Version{}, false, err
	}
	err = s.update(ctx, v.Name, func(tx *sql.Tx) error {
		stored, err = scanVersion(tx.QueryRowContext(ctx, selectVersion+` WHERE name = ? AND digest = ?`, v.Name, string(v.Digest)))
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		var newest int
		err := tx.QueryRowContext(ctx, `SELECT coalesce(max(number), 0) FROM (
			SELECT number FROM versions WHERE name = ? UNION ALL SELECT number FROM deleted_versions WHERE name = ?)`, v.Name, v.Name).Scan(&newest)
		if err != nil {
			return err
		}
		v.Number, v.Reports = newest+1, nil
		stored, created = v, true
		body, err := encode(v)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO versions (name, number, digest, task, created, body) VALUES (?, ?, ?, ?, ?, ?)`,
			v.Name, v.Number, string(v.Digest), v.Task, unix(v.Created), body)
		if err != nil {
			return err
		}
		return commit(ctx, tx, "model/"+v.Name, v.Ref(), int64(v.Number),
			store.Commit{By: v.Creator, At: v.Created, Action: "version.register", Detail: string(v.Digest)})
	})
	if err != nil {
		return registry.Version{}, false, err
	}
	return stored, created, nil
}

const selectVersion = `SELECT name, body FROM versions`

func scanVersion(row interface{ Scan(...any) error }) (registry.Version, error) {
	var name string
	var body []byte
	var v registry.Version
	if err := row.Scan(&name, &body); err != nil {
		return v, err
	}
	return v, decode(name, body, &v)
}

// Version implements registry.Store.
func (s *Store) Version(ctx context.Context, name string, number int) (registry.Version, error) {
	ref := galley.Ref{Name: name, Version: number}.String()
	return s.version(ctx, ref, ` WHERE name = ? AND number = ?`, name, number)
}

// Find implements registry.Store.
func (s *Store) Find(ctx context.Context, digest galley.Digest) (registry.Version, error) {
	return s.version(ctx, string(digest), ` WHERE digest = ? ORDER BY id LIMIT 1`, string(digest))
}

func (s *Store) version(ctx context.Context, subject, where string, args ...any) (registry.Version, error) {
	var v registry.Version
	err := s.view(ctx, subject, func(tx *sql.Tx) error {
		var err error
		v, err = scanVersion(tx.QueryRowContext(ctx, selectVersion+where, args...))
		if errors.Is(err, sql.ErrNoRows) {
			return notFound(subject, "version").WithRemedy("list them with galley models list")
		}
		if err != nil {
			return err
		}
		v.Reports, err = reportsOf(ctx, tx, v.Name, v.Number)
		return err
	})
	return v, err
}

// Model implements registry.Store.
func (s *Store) Model(ctx context.Context, name string) (registry.Model, error) {
	var m registry.Model
	err := s.view(ctx, name, func(tx *sql.Tx) error {
		var err error
		m, err = loadModel(ctx, tx, name, ``)
		if err == nil && len(m.Versions) == 0 {
			return notFound(name, "model").WithRemedy("list them with galley models list")
		}
		return err
	})
	return m, err
}

// Outline implements registry.Store.
func (s *Store) Outline(ctx context.Context, name string, number int) (registry.Model, error) {
	var m registry.Model
	err := s.view(ctx, name, func(tx *sql.Tx) error {
		var err error
		m, err = loadModel(ctx, tx, name, ` AND number IN (?, (SELECT max(number) FROM versions WHERE name = ?))`, number, name)
		if err == nil && len(m.Versions) == 0 {
			return notFound(name, "model").WithRemedy("list them with galley models list")
		}
		return err
	})
	return m, err
}

// Models implements registry.Store.
func (s *Store) Models(ctx context.Context, after string, limit int) ([]registry.Model, error) {
	var out []registry.Model
	err := s.view(ctx, "models", func(tx *sql.Tx) error {
		var names []string
		rows, err := tx.QueryContext(ctx, `SELECT DISTINCT name FROM versions WHERE name > ? ORDER BY name LIMIT ?`, after, bounded(limit))
		err = each(rows, err, func() error {
			var name string
			err := rows.Scan(&name)
			names = append(names, name)
			return err
		})
		if err != nil {
			return err
		}
		for _, name := range names {
			m, err := loadModel(ctx, tx, name, ``)
			if err != nil {
				return err
			}
			out = append(out, m)
		}
		return nil
	})
	return out, err
}

// loadModel loads a model with its versions for which the condition holds.
func loadModel(ctx context.Context, tx *sql.Tx, name, condition string, args ...any) (registry.Model, error) {
	m := registry.Model{Name: name, Versions: []registry.Summary{}, Aliases: []registry.Alias{}}
	rows, err := tx.QueryContext(ctx, `SELECT number, digest, task, created FROM versions WHERE name = ?`+condition+` ORDER BY number`, append([]any{name}, args...)...)
	err = each(rows, err, func() error {
		var v registry.Summary
		var created int64
		err := rows.Scan(&v.Number, &v.Digest, &v.Task, &created)
		v.Created = fromUnix(created)
		m.Versions = append(m.Versions, v)
		return err
	})
	if err != nil {
		return m, err
	}
	rows, err = tx.QueryContext(ctx, selectAlias+` WHERE model = ? ORDER BY alias`, name)
	return m, each(rows, err, func() error {
		a, err := scanAlias(rows)
		m.Aliases = append(m.Aliases, a)
		return err
	})
}

func reportsOf(ctx context.Context, tx *sql.Tx, name string, number int) ([]registry.ReportRef, error) {
	var out []registry.ReportRef
	rows, err := tx.QueryContext(ctx, `SELECT summary FROM reports WHERE name = ? AND number = ? ORDER BY created, digest`, name, number)
	err = each(rows, err, func() error {
		var body []byte
		if err := rows.Scan(&body); err != nil {
			return err
		}
		var r registry.ReportRef
		err := decode(name, body, &r)
		out = append(out, r)
		return err
	})
	return slices.Clip(out), err
}

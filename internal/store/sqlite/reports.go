package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"

	"galley"
	"galley/evals"
	"galley/internal/store"
	"galley/registry"
)

// AddReport implements registry.Store.
func (s *Store) AddReport(ctx context.Context, name string, number int, r *evals.Report, by registry.Stamp) (registry.ReportRef, error) {
	body, err := r.Encode()
	if err != nil {
		return registry.ReportRef{}, err
	}
	ref := registry.Summarise(r, galley.DigestBytes(body), by.At)
	summary, err := encode(ref)
	if err != nil {
		return registry.ReportRef{}, err
	}
	subject := galley.Ref{Name: name, Version: number}.String()
	err = s.update(ctx, subject, func(tx *sql.Tx) error {
		if _, err := scanVersion(tx.QueryRowContext(ctx, selectVersion+` WHERE name = ? AND number = ?`, name, number)); err != nil {
			if errors.Is(err, sql.ErrNoRows) {
				return notFound(subject, "version")
			}
			return err
		}
		var stored []byte
		err := tx.QueryRowContext(ctx, `SELECT summary FROM reports WHERE name = ? AND number = ? AND digest = ?`, name, number, string(ref.Digest)).Scan(&stored)
		if err == nil {
			return decode(subject, stored, &ref)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO reports (name, number, digest, created, summary, body) VALUES (?, ?, ?, ?, ?, ?)`,
			name, number, string(ref.Digest), unix(ref.Created), summary, body)
		if err != nil {
			return err
		}
		return commit(ctx, tx, "report/"+string(ref.Digest), subject, 0,
			store.Commit{By: by.By, At: by.At, Action: "version.report", Detail: string(ref.Digest)})
	})
	if err != nil {
		return registry.ReportRef{}, err
	}
	return ref, nil
}

// Report implements registry.Store.
func (s *Store) Report(ctx context.Context, digest galley.Digest) (*evals.Report, error) {
	var r *evals.Report
	err := s.view(ctx, string(digest), func(tx *sql.Tx) error {
		var body []byte
		err := tx.QueryRowContext(ctx, `SELECT body FROM reports WHERE digest = ? LIMIT 1`, string(digest)).Scan(&body)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound(string(digest), "report")
		}
		if err != nil {
			return err
		}
		r, err = evals.DecodeReport(bytes.NewReader(body))
		return err
	})
	return r, err
}

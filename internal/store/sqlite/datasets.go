package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"

	"galley"
	"galley/dataset"
	"galley/internal/store"
)

// AddDataset gives a frozen dataset the next version of its name and stores
// it. If the name already has a version with the same manifest, that one is
// returned, and created is false.
func (s *Store) AddDataset(ctx context.Context, m *dataset.Manifest, c store.Commit) (d store.Dataset, created bool, err error) {
	body, err := m.Encode()
	if err != nil {
		return d, false, err
	}
	digest := galley.DigestBytes(body)
	err = s.update(ctx, m.Name, func(tx *sql.Tx) error {
		d, err = scanDataset(tx.QueryRowContext(ctx, selectDataset+` WHERE name = ? AND digest = ?`, m.Name, string(digest)))
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		var newest int
		if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM datasets WHERE name = ?`, m.Name).Scan(&newest); err != nil {
			return err
		}
		d, created = store.Dataset{Name: m.Name, Version: newest + 1, Digest: digest, Manifest: m, Created: c.At.UTC()}, true
		_, err := tx.ExecContext(ctx, `INSERT INTO datasets (name, version, digest, manifest, created) VALUES (?, ?, ?, ?, ?)`,
			d.Name, d.Version, string(d.Digest), body, unix(d.Created))
		if err != nil {
			return err
		}
		return commit(ctx, tx, "dataset/"+d.Name, d.Ref(), int64(d.Version), c)
	})
	if err != nil {
		return store.Dataset{}, false, err
	}
	return d, created, nil
}

const selectDataset = `SELECT name, version, digest, manifest, created FROM datasets`

// Dataset returns the dataset that a ref stands for: name (the newest),
// name@n or a manifest's digest.
func (s *Store) Dataset(ctx context.Context, ref galley.Ref) (store.Dataset, error) {
	var d store.Dataset
	err := s.view(ctx, ref.String(), func(tx *sql.Tx) error {
		var row *sql.Row
		switch {
		case ref.Digest != "":
			row = tx.QueryRowContext(ctx, selectDataset+` WHERE digest = ? ORDER BY created, name LIMIT 1`, string(ref.Digest))
		case ref.Alias != "":
			return galley.Errorf(galley.InvalidArgument, ref.String(), "datasets have no aliases").WithRemedy("write %s@1", ref.Name)
		case ref.Version > 0:
			row = tx.QueryRowContext(ctx, selectDataset+` WHERE name = ? AND version = ?`, ref.Name, ref.Version)
		default:
			row = tx.QueryRowContext(ctx, selectDataset+` WHERE name = ? ORDER BY version DESC LIMIT 1`, ref.Name)
		}
		var err error
		d, err = scanDataset(row)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound(ref.String(), "dataset").WithRemedy("register it with galley data add")
		}
		return err
	})
	return d, err
}

// Datasets returns up to limit dataset versions in the order of name and
// version, from the first one of the first name after the one given.
func (s *Store) Datasets(ctx context.Context, after string, limit int) ([]store.Dataset, error) {
	var out []store.Dataset
	err := s.view(ctx, "datasets", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, selectDataset+` WHERE name > ? ORDER BY name, version LIMIT ?`, after, bounded(limit))
		return each(rows, err, func() error {
			d, err := scanDataset(rows)
			out = append(out, d)
			return err
		})
	})
	return out, err
}

func scanDataset(row interface{ Scan(...any) error }) (store.Dataset, error) {
	var d store.Dataset
	var manifest []byte
	var created int64
	if err := row.Scan(&d.Name, &d.Version, &d.Digest, &manifest, &created); err != nil {
		return store.Dataset{}, err
	}
	m, err := dataset.DecodeManifest(bytes.NewReader(manifest))
	if err != nil {
		return store.Dataset{}, galley.Errorf(galley.DataLoss, d.Ref(), "the stored manifest cannot be read: %w", err)
	}
	d.Manifest, d.Created = m, fromUnix(created)
	return d, nil
}

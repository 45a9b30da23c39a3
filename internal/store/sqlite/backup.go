package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"galley"
	"galley/internal/durable"
	"galley/internal/store"
)

// The names of a store's files in its folder.
const (
	DatabaseFile = databaseFile
	LockFile     = lockFile
)

// RestoreFolder is where a home is restored before it takes its place. A home
// that has it and no database is one whose restoring was cut off.
const RestoreFolder = "restoring"

// Lock makes a folder this process' own, as Open does, until release.
func Lock(dir string) (release func() error, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, durable.WriteError(dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, durable.WriteError(dir, err)
	}
	l, err := acquire(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, err
	}
	return l.release, nil
}

// checkRestored refuses a home whose restoring was cut off: an empty database
// would hide it.
func checkRestored(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, databaseFile)); !errors.Is(err, fs.ErrNotExist) {
		return nil // open tells of other errors
	}
	if _, err := os.Stat(filepath.Join(dir, RestoreFolder)); err == nil {
		return galley.Errorf(galley.FailedPrecondition, dir, "restoring this home was cut off").
			WithRemedy("do it again: galley restore FILE --replace")
	}
	return nil
}

// Snapshot writes the state as of one moment into a new database in a folder.
// Reads and writes go on meanwhile.
func (s *Store) Snapshot(ctx context.Context, dir string) error {
	// On a connection of its own, so that nobody waits for it.
	db, err := connect(s.path, 1)
	if err != nil {
		return coded(s.path, err)
	}
	path := filepath.Join(dir, databaseFile)
	_, err = db.ExecContext(ctx, `VACUUM INTO ?`, path)
	return coded(path, errors.Join(err, db.Close()))
}

// CheckIntegrity reads the whole database. Its error says what is damaged.
func (s *Store) CheckIntegrity(ctx context.Context) error {
	return s.view(ctx, "database", func(tx *sql.Tx) error {
		var answer string
		if err := tx.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&answer); err != nil {
			return err
		}
		if answer != "ok" {
			return galley.Errorf(galley.DataLoss, "database", "is damaged: %s", answer).WithRemedy(restoreRemedy)
		}
		var table, row, parent, key any
		err := tx.QueryRowContext(ctx, `PRAGMA foreign_key_check`).Scan(&table, &row, &parent, &key)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil {
			err = galley.Errorf(galley.DataLoss, "database", "is damaged: row %v of %v names none of %v", row, table, parent).WithRemedy(restoreRemedy)
		}
		return err
	})
}

// Record writes an entry of the audit log that tells of no other change here.
func (s *Store) Record(ctx context.Context, subject string, c store.Commit) error {
	return s.update(ctx, subject, func(tx *sql.Tx) error {
		return commit(ctx, tx, "", subject, 0, store.Commit{By: c.By, At: c.At, Action: c.Action, Detail: c.Detail})
	})
}

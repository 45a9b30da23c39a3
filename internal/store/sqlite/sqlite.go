package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite", without cgo

	"galley"
	"galley/internal/durable"
	"galley/registry"
)

// The files of a home.
const (
	databaseFile = "galley.db"
	lockFile     = "galley.lock"
)

// readers is how many reads go on at the same time.
const readers = 4

// A Store is an open database.
type Store struct {
	lock  *lock
	path  string
	write *sql.DB // one connection
	read  *sql.DB // query only
}

var _ registry.Store = (*Store)(nil)

// Open opens the database in a folder, which it makes if it is not there, and
// brings its schema up to date. The folder belongs to this process until
// Close.
func Open(ctx context.Context, dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
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
	if err := checkRestored(dir); err != nil {
		return nil, errors.Join(err, l.release())
	}
	s := &Store{lock: l, path: filepath.Join(dir, databaseFile)}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	path := s.path
	// SQLite itself would make the file readable for everyone.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return durable.WriteError(path, err)
	}
	if err := f.Close(); err != nil {
		return durable.WriteError(path, err)
	}
	s.write, err = connect(path, 1, "_txlock=immediate", "_pragma=journal_mode(WAL)", "_pragma=synchronous(FULL)")
	if err != nil {
		return coded(path, err)
	}
	if err := migrate(ctx, s.write, path); err != nil {
		return coded(path, err)
	}
	s.read, err = connect(path, readers, "_pragma=query_only(1)")
	if err != nil {
		return coded(path, err)
	}
	// A new database must be found again after a loss of power.
	return durable.WriteError(path, durable.SyncFolder(filepath.Dir(path)))
}

func connect(path string, connections int, options ...string) (*sql.DB, error) {
	options = append(options, "_pragma=foreign_keys(1)", "_pragma=busy_timeout(10000)")
	query := ""
	for _, o := range options {
		query += "&" + o
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: query[1:]}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// Close ends the use of the database and gives the folder free.
func (s *Store) Close() error {
	var err error
	if s.read != nil {
		err = errors.Join(err, s.read.Close())
	}
	if s.write != nil {
		err = errors.Join(err, s.write.Close())
	}
	return errors.Join(err, s.lock.release())
}

// update runs f in a transaction that writes. The error of f undoes it.
func (s *Store) update(ctx context.Context, subject string, f func(*sql.Tx) error) error {
	return coded(subject, inTx(ctx, s.write, nil, f))
}

// view runs f in a transaction that reads one state.
func (s *Store) view(ctx context.Context, subject string, f func(*sql.Tx) error) error {
	return coded(subject, inTx(ctx, s.read, &sql.TxOptions{ReadOnly: true}, f))
}

func inTx(ctx context.Context, db *sql.DB, o *sql.TxOptions, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, o)
	if err != nil {
		return err
	}
	defer tx.Rollback() // without effect after Commit
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// notFound is the error of a row that is not there.
func notFound(subject, what string) *galley.Error {
	return galley.Errorf(galley.NotFound, subject, "there is no such %s", what)
}

func unix(t time.Time) int64 { return t.UnixNano() }

func fromUnix(n int64) time.Time { return time.Unix(0, n).UTC() }

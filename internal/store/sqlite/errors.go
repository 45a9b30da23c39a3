package sqlite

import (
	"database/sql"
	"errors"

	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"galley"
	"galley/internal/durable"
)

// ErrInUse is the cause of the error of a folder that another process owns.
var ErrInUse = errors.New("is in use by the galley process")

// restoreRemedy is what to do about a database that is damaged.
const restoreRemedy = "what else it holds can still be read; stop the server and restore a backup: galley restore FILE --replace, which keeps what is there"

// closedMessage is the error of a closed sql.DB, which has no name.
const closedMessage = "sql: database is closed"

// coded gives an error of SQLite its code and a remedy. Errors that have a
// code, and those of the context, stay as they are.
func coded(subject string, err error) error {
	var own *galley.Error
	var e *driver.Error
	switch {
	case err == nil || errors.As(err, &own):
		return err
	case errors.Is(err, sql.ErrConnDone) || err.Error() == closedMessage:
		return galley.Errorf(galley.Unavailable, subject, "the database is closed: %w", err)
	case !errors.As(err, &e):
		if code := galley.CodeOf(err); code != galley.Unknown {
			return galley.Errorf(code, subject, "%w", err)
		}
		return galley.Errorf(galley.Internal, subject, "the database failed: %w", err)
	}
	switch e.Code() & 0xff { // the rest is the extended code
	case lib.SQLITE_FULL:
		return durable.Full(subject, err)
	case lib.SQLITE_READONLY, lib.SQLITE_CANTOPEN, lib.SQLITE_PERM:
		return durable.NotWritable(subject, err)
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		return galley.Errorf(galley.Unavailable, subject, "the database is busy: %w", err).
			WithRemedy("try again; if it stays so, look for another program that has the file open")
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return galley.Errorf(galley.DataLoss, subject, "the database file is damaged: %w", err).
			WithRemedy(restoreRemedy)
	case lib.SQLITE_IOERR:
		return galley.Errorf(galley.Unavailable, subject, "the disk failed: %w", err).
			WithRemedy("look at the disk's space and health; nothing that was acknowledged is lost")
	case lib.SQLITE_INTERRUPT:
		return galley.Errorf(galley.Canceled, subject, "interrupted: %w", err)
	case lib.SQLITE_CONSTRAINT:
		return galley.Errorf(galley.FailedPrecondition, subject, "contradicts what is stored: %w", err)
	case lib.SQLITE_TOOBIG:
		return galley.Errorf(galley.InvalidArgument, subject, "is too large to store: %w", err)
	default:
		return galley.Errorf(galley.Internal, subject, "the database failed: %w", err)
	}
}

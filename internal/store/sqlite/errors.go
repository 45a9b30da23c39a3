package sqlite

import (
	"database/sql"
	"errors"
	"io/fs"
	"syscall"

	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"galley"
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
		return diskFull(subject, err)
	case lib.SQLITE_READONLY, lib.SQLITE_CANTOPEN, lib.SQLITE_PERM:
		return notWritable(subject, err)
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

// fileError gives an error of the file system its code and a remedy.
func fileError(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return diskFull(path, err)
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS):
		return notWritable(path, err)
	case errors.Is(err, syscall.ENOTDIR):
		return galley.Errorf(galley.FailedPrecondition, path, "cannot be made, a file is in its way: %w", err).
			WithRemedy("set GALLEY_HOME to a folder")
	default:
		return galley.Errorf(galley.Unavailable, path, "%w", err)
	}
}

func diskFull(subject string, err error) error {
	return galley.Errorf(galley.ResourceExhausted, subject, "the disk is full: %w", err).
		WithRemedy("free some space and try again; nothing that was acknowledged is lost")
}

func notWritable(subject string, err error) error {
	return galley.Errorf(galley.PermissionDenied, subject, "galley may not write there: %w", err).
		WithRemedy("make the folder writable for this user, or set GALLEY_HOME to one that is")
}

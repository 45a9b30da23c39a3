package control

import (
	"errors"
	"io/fs"
	"syscall"

	"galley"
)

// fileError gives an error of writing in the home its code and a remedy.
func fileError(path string, err error) error {
	var coded *galley.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &coded):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return galley.Errorf(galley.ResourceExhausted, path, "the disk is full: %w", err).
			WithRemedy("free some space and try again; what was stored is whole")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return galley.Errorf(galley.PermissionDenied, path, "galley may not write there: %w", err).
			WithRemedy("make the home writable for this user, or set GALLEY_HOME to one that is")
	default:
		return galley.Errorf(galley.Unavailable, path, "%w", err)
	}
}

// passing reports whether an error may go away by itself, so that trying again
// makes sense.
func passing(err error) bool {
	switch galley.CodeOf(err) {
	case galley.Unavailable, galley.ResourceExhausted, galley.Aborted, galley.Canceled, galley.DeadlineExceeded:
		return true
	default:
		return false
	}
}

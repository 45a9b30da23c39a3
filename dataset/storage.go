package dataset

import (
	"errors"
	"io/fs"
	"syscall"

	"galley"
)

// storageError is the error of a file that cannot be written.
func storageError(subject string, err error) error {
	var coded *galley.Error
	switch {
	case err == nil || errors.As(err, &coded):
		return err
	case errors.Is(err, syscall.ENOSPC):
		return galley.Errorf(galley.ResourceExhausted, subject, "the disk is full: %w", err).
			WithRemedy("make room and add the data again")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return galley.Errorf(galley.FailedPrecondition, subject, "the folder cannot be written: %w", err).
			WithRemedy("give galley a folder that it may write to")
	default:
		return galley.Errorf(galley.FailedPrecondition, subject, "writing failed: %w", err)
	}
}

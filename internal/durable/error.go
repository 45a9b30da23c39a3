package durable

import (
	"errors"
	"io/fs"
	"syscall"

	"galley"
)

// WriteError gives an error of writing a file its code and a remedy. One that
// has a code stays as it is; nil stays nil.
func WriteError(path string, err error) error {
	var coded *galley.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &coded):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return Full(path, err)
	case errors.Is(err, syscall.EFBIG):
		return galley.Errorf(galley.ResourceExhausted, path, "the file is larger than the system allows: %w", err).
			WithRemedy("raise the limit on file sizes, or choose another disk")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return NotWritable(path, err)
	case errors.Is(err, syscall.ENOTDIR):
		return galley.Errorf(galley.FailedPrecondition, path, "cannot be made, a file is in its way: %w", err).
			WithRemedy("set GALLEY_HOME to a folder")
	default:
		return galley.Errorf(galley.Unavailable, path, "%w", err)
	}
}

// Full is the error of a disk without room.
func Full(subject string, err error) *galley.Error {
	return galley.Errorf(galley.ResourceExhausted, subject, "the disk is full: %w", err).
		WithRemedy("free some space and try again; what was stored is whole")
}

// NotWritable is the error of a place that this user may not write.
func NotWritable(subject string, err error) *galley.Error {
	return galley.Errorf(galley.PermissionDenied, subject, "galley may not write there: %w", err).
		WithRemedy("make the folder writable for this user, or set GALLEY_HOME to one that is")
}

// ReadError gives an error of reading a file its code, and a remedy for a disk
// that fails: that may pass. One that has a code stays as it is; nil stays nil.
func ReadError(path string, err error) error {
	var coded *galley.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &coded):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return galley.Errorf(galley.NotFound, path, "there is no such file")
	case errors.Is(err, fs.ErrPermission):
		return galley.Errorf(galley.PermissionDenied, path, "may not be read: %w", err)
	case errors.Is(err, syscall.EISDIR):
		return galley.Errorf(galley.InvalidArgument, path, "is a folder, not a file: %w", err)
	case errors.Is(err, syscall.EIO):
		return galley.Errorf(galley.Unavailable, path, "the disk failed: %w", err).
			WithRemedy("try again, and look at the disk's health; what stays unreadable comes back from a backup: galley restore")
	default:
		return galley.Errorf(galley.Unavailable, path, "cannot be read: %w", err)
	}
}

package blob

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"syscall"

	"galley"
)

// fileError gives an error of writing its code and a remedy.
func fileError(path string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return galley.Errorf(galley.ResourceExhausted, path, "the disk is full: %w", err).
			WithRemedy("free some space and try again; blobs that were stored are whole")
	case errors.Is(err, syscall.EFBIG):
		return galley.Errorf(galley.ResourceExhausted, path, "the file is larger than the system allows: %w", err).
			WithRemedy("raise the limit on file sizes, or choose another disk")
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS):
		return galley.Errorf(galley.PermissionDenied, path, "galley may not write there: %w", err).
			WithRemedy("make the folder writable for this user, or set GALLEY_HOME to one that is")
	case errors.Is(err, syscall.ENOTDIR):
		return galley.Errorf(galley.FailedPrecondition, path, "cannot be made, a file is in its way: %w", err).
			WithRemedy("set GALLEY_HOME to a folder")
	default:
		return galley.Errorf(galley.Unavailable, path, "%w", err)
	}
}

// readError gives an error of reading its code.
func readError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return galley.Errorf(galley.NotFound, path, "there is no such file")
	case errors.Is(err, fs.ErrPermission):
		return galley.Errorf(galley.PermissionDenied, path, "may not be read: %w", err)
	default:
		return galley.Errorf(galley.Unavailable, path, "cannot be read: %w", err)
	}
}

// missing gives an error of reading a blob its code.
func missing(d galley.Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return galley.Errorf(galley.NotFound, string(d), "there is no such blob")
	}
	return readError(string(d), err)
}

func damaged(d galley.Digest) error {
	return galley.Errorf(galley.DataLoss, string(d), "the stored bytes are damaged: they no longer have this digest").
		WithRemedy("restore the blob from a backup, or make the version again; its lineage says how")
}

// syncFolder flushes a folder's entries, so that a rename in it outlives a
// loss of power.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" { // folders cannot be flushed there
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// remove removes a file that may be gone already.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fileError(path, err)
	}
	return nil
}

package blob

import (
	"errors"
	"io/fs"
	"os"

	"galley"
	"galley/internal/durable"
)

// missing gives an error of reading a blob its code.
func missing(d galley.Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return galley.Errorf(galley.NotFound, string(d), "there is no such blob")
	}
	return durable.ReadError(string(d), err)
}

func damaged(d galley.Digest) error {
	return galley.Errorf(galley.DataLoss, string(d), "the stored bytes are damaged: they no longer have this digest").
		WithRemedy("restore the blob from a backup, or make the version again; its lineage says how")
}

// remove removes a file that may be gone already.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return durable.WriteError(path, err)
	}
	return nil
}

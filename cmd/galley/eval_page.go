package main

import (
	"errors"
	"os"
	"path/filepath"

	"galley/evals"
	"galley/evals/page"
)

// writePage writes a report as a page: it is at its path whole or as it was.
func writePage(path string, r *evals.Report) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.part") // for this user only
	if err != nil {
		return fileError(path, err)
	}
	err = page.Write(f, r)
	if closed := f.Close(); err == nil && closed != nil {
		err = fileError(path, closed)
	}
	if err == nil {
		if err = os.Rename(f.Name(), path); err != nil {
			err = fileError(path, err)
		}
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

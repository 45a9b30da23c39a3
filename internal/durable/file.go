package durable

import (
	"cmp"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// Replace writes a file, or writes it anew: what write puts into a temporary
// file beside it is at its path afterwards, whole or not at all. The file has
// the mode, less what the process' umask takes. What a killed process leaves
// ends in .tmp; see Clean.
func Replace(path string, mode fs.FileMode, write func(*os.File) error) error {
	f, err := os.OpenFile(path+"."+rand.Text()[:randomSize]+temporary, os.O_CREATE|os.O_EXCL|os.O_RDWR, mode)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncFolder(filepath.Dir(path))
}

// A temporary file has so many random characters in its name, and this ending.
const (
	randomSize = 10
	temporary  = ".tmp"
)

// Clean removes what killed processes have left of Replace at a path, which no
// process may be writing meanwhile.
func Clean(path string) error {
	dir, name := filepath.Split(path)
	entries, err := os.ReadDir(cmp.Or(dir, "."))
	if err != nil {
		return err
	}
	for _, e := range entries {
		random, ours := strings.CutPrefix(e.Name(), name+".")
		random, ends := strings.CutSuffix(random, temporary)
		if ours && ends && len(random) == randomSize && e.Type().IsRegular() {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// Write is Replace with the file's bytes.
func Write(path string, mode fs.FileMode, data []byte) error {
	return Replace(path, mode, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}

// SyncFolder flushes a folder's entries, so that a rename in it outlives a loss
// of power. Where folders cannot be flushed, it does nothing.
func SyncFolder(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) { // the file system's
		err = nil
	}
	return errors.Join(err, f.Close())
}

//go:build unix

package sqlite

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"galley"
)

// A lock is a file that says which process owns a folder. The system drops
// the lock when the process ends, however it ends; the number left in the
// file then means nothing.
type lock struct{ file *os.File }

func acquire(path string) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fileError(path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, inUse(path, f)
		}
		return nil, fileError(path, err)
	}
	l := &lock{f}
	if err := l.sign(); err != nil {
		return nil, errors.Join(fileError(path, err), l.release())
	}
	return l, nil
}

// sign writes the number of this process into the file.
func (l *lock) sign() error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	return err
}

func inUse(path string, f *os.File) error {
	data, err := io.ReadAll(io.LimitReader(f, 32))
	owner := strings.TrimSpace(string(data))
	if err != nil || owner == "" {
		owner = "unknown"
	}
	return galley.Errorf(galley.FailedPrecondition, filepath.Dir(path), "is in use by the galley process with pid %s", owner).
		WithRemedy("talk to that server instead of using --local, stop it, or set GALLEY_HOME to another folder")
}

func (l *lock) release() error {
	// Closing drops the lock. The file stays: removing it would let two
	// processes hold locks on different files of the same name.
	return l.file.Close()
}

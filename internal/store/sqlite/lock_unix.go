//go:build unix

package sqlite

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"galley"
	"galley/internal/durable"
)

// A lock is a file that says which process owns a folder. The system drops
// the lock when the process ends, however it ends; the number left in the
// file then means nothing.
type lock struct{ file *os.File }

func acquire(path string) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, durable.WriteError(path, err)
	}
	if err := flock(f); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, inUse(path, f)
		}
		return nil, durable.WriteError(path, err)
	}
	l := &lock{f}
	if err := l.sign(); err != nil {
		return nil, errors.Join(durable.WriteError(path, err), l.release())
	}
	return l, nil
}

// The lock of a process that has ended may stay for a moment: until the system
// has closed its files, or a child of it has become another program.
const (
	lockPatience = time.Second
	lockPause    = 10 * time.Millisecond
)

// flock locks the file. It waits for a moment if its owner is gone.
func flock(f *os.File) error {
	for waited := time.Duration(0); ; waited += lockPause {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || waited >= lockPatience || !gone(owner(f)) {
			return err
		}
		time.Sleep(lockPause)
	}
}

// owner is what the file says of the process that locked it, "" for nothing.
func owner(f *os.File) string {
	data := make([]byte, 32)
	n, err := f.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	return strings.TrimSpace(string(data[:n]))
}

// gone reports whether the numbered process is known to have ended.
func gone(pid string) bool {
	n, err := strconv.Atoi(pid)
	return err == nil && n > 0 && errors.Is(syscall.Kill(n, 0), syscall.ESRCH)
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
	pid := owner(f)
	if pid == "" {
		pid = "unknown"
	}
	return galley.Errorf(galley.FailedPrecondition, filepath.Dir(path), "%w with pid %s", ErrInUse, pid).
		WithRemedy("talk to that server instead of using --local, stop it, or set GALLEY_HOME to another folder")
}

func (l *lock) release() error {
	// Closing drops the lock. The file stays: removing it would let two
	// processes hold locks on different files of the same name.
	return l.file.Close()
}

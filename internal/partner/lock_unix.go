//go:build unix

package partner

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"galley"
	"galley/internal/durable"
)

// A lock is a file that one process has at a time. The system drops the lock
// when the process ends, however it ends.
type lock struct{ file *os.File }

// lockPause is between two looks at a lock that another process has.
const lockPause = 10 * time.Millisecond

// lockPatience is longer than an agent that ends needs to go, and than a status
// looks.
const lockPatience = time.Second

// acquire locks the file at path, and waits for it for a while.
func acquire(path string, patience time.Duration) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, durable.WriteError(path, err)
	}
	for waited := time.Duration(0); ; waited += lockPause {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) || waited >= patience {
			break
		}
		time.Sleep(lockPause)
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		defer f.Close()
		return nil, inUse(filepath.Dir(path), owner(f))
	}
	if err == nil {
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
		}
	}
	if err != nil {
		return nil, errors.Join(durable.WriteError(path, err), f.Close())
	}
	return &lock{f}, nil
}

// locked reports whether a process has the file at path. An agent that begins at
// that very moment waits for the answer.
func locked(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, durable.ReadError(path, err)
	}
	defer f.Close()
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return true, nil
	case err != nil:
		return false, durable.ReadError(path, err)
	}
	return false, nil
}

// owner is what the file says of the process that locked it.
func owner(f *os.File) string {
	data := make([]byte, 32)
	n, err := f.ReadAt(data, 0)
	if pid := strings.TrimSpace(string(data[:n])); pid != "" && (err == nil || errors.Is(err, io.EOF)) {
		return pid
	}
	return "unknown"
}

// release drops the lock. The file stays: removing it would let two processes
// hold locks on different files of the same name.
func (l *lock) release() error { return l.file.Close() }

func inUse(home, pid string) error {
	return galley.Errorf(galley.FailedPrecondition, home, "another agent works in this folder, with pid %s", pid).
		WithRemedy("stop it first, or give each agent a home of its own")
}

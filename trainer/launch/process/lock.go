package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"galley"
)

const (
	lockFile = "lock"
	// lockPatience is how long an attempt waits for the one before to die.
	lockPatience = 10 * time.Second
)

// lockFolder makes sure that no other attempt writes to the folder. The lock
// goes with the process, however it ends.
func lockFolder(ctx context.Context, folder string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(folder, lockFile), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, diskError(folder, err)
	}
	deadline := time.Now().Add(lockPatience)
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) || time.Now().After(deadline) {
			f.Close()
			return nil, galley.Errorf(galley.Aborted, folder, "another attempt of this job still runs: %w", err).
				WithRemedy("end that process, then resume the job")
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

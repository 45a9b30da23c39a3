//go:build !unix

package partner

import (
	"time"

	"galley"
)

const lockPatience = 0

// A lock cannot be had on this system.
type lock struct{}

func acquire(path string, _ time.Duration) (*lock, error) {
	return nil, galley.Errorf(galley.Unimplemented, path, "this system has no file locks that galley can use").
		WithRemedy("run the agent on Linux or macOS")
}

func locked(string) (bool, error) { return false, nil }

func (l *lock) release() error { return nil }

//go:build unix && !linux

package process

import (
	"os"
	"syscall"
)

// attributes give the child a group of its own; it dies with its parent when
// its stdin ends.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func killGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }

func preferKilled() {}

func memoryKills() (n int64, ok bool) { return 0, false }

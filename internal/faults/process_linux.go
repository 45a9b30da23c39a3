package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"
)

// Unlimited lifts LimitWrites.
const Unlimited = ^uint64(0)

// LimitWrites lets a process write no byte behind the given place of any
// file: a write across it ends half-way, one beyond it fails.
func LimitWrites(pid int, place uint64) error {
	limit := [2]uint64{place, Unlimited} // the soft limit, the hard one
	const fileSize = 1                   // RLIMIT_FSIZE
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), fileSize, uintptr(unsafe.Pointer(&limit)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// KillChildren kills the children of a process and returns how many there
// were.
func KillChildren(pid int) (n int, err error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// PID (NAME) STATE PARENT …, and a name may hold anything.
		name, rest, ok := strings.Cut(string(stat), ") ")
		var child, parent int
		var state string
		if _, err := fmt.Sscan(name, &child); err != nil || !ok {
			continue
		}
		if _, err := fmt.Sscan(rest, &state, &parent); err != nil || parent != pid || state == "Z" {
			continue
		}
		if syscall.Kill(child, syscall.SIGKILL) == nil {
			n++
		}
	}
	return n, nil
}

package probe

import "syscall"

// rlimitData bounds a process's private writable memory; package syscall has
// no name for it. Address space would be the wrong measure: Go reserves much
// more of it than it uses.
const rlimitData = 2

func limitMemory(bytes uint64) error {
	return syscall.Setrlimit(rlimitData, &syscall.Rlimit{Cur: bytes, Max: bytes})
}

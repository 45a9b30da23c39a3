package processors

import (
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// How long a thread runs before another that is ready has its turn. Since Linux
// 6.12 a thread with short turns that becomes ready goes at once before one that
// has long ones, and neither gets more of the processor for it; before, these
// are heard and mean nothing.
const (
	short = 300 * time.Microsecond
	long  = 20 * time.Millisecond
)

// priority is that of the process, if its threads take turns; nil before Serve.
var priority atomic.Pointer[unix.SchedAttr]

// shortTurns gives all threads short turns; those that they make have them, too.
func shortTurns() {
	const size = 48 // of the structure's first version, which has all that is set here
	p, err := unix.SchedGetAttr(0, 0)
	if err != nil || p.Policy != unix.SCHED_NORMAL {
		return
	}
	p = &unix.SchedAttr{Size: size, Policy: p.Policy, Nice: p.Nice}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil || setTurn(p, id, short) != nil && id == unix.Gettid() {
			return // a sandbox that forbids it
		}
	}
	priority.Store(p)
}

// setTurn sets how long the turns of a thread are; 0 is the caller's.
func setTurn(p *unix.SchedAttr, thread int, turn time.Duration) error {
	with := *p
	with.Runtime = uint64(turn)
	return unix.SchedSetAttr(thread, &with, 0)
}

// inLongTurn calls f on a thread that takes long turns, which threads that have
// something short to do cut in upon.
func inLongTurn(f func()) {
	p := priority.Load()
	if p == nil {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if setTurn(p, 0, long) == nil {
		defer func() { _ = setTurn(p, 0, short) }()
	}
	f()
}

// Background calls f on a thread that leaves most of the processor to the others
// of the machine.
func Background(f func()) {
	const nice = 5
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread ends with the goroutine, for priority
		// once given up cannot be had back.
		runtime.LockOSThread()
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, nice) // 0 is this thread
		f()
	}()
	<-done
}

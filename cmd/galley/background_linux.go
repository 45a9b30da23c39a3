package main

import (
	gort "runtime"
	"syscall"
)

// inBackground calls f on a thread that yields to the others of the process.
func inBackground(f func()) {
	const nice = 5
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread ends with the goroutine, for priority
		// once given up cannot be had back.
		gort.LockOSThread()
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, nice) // 0 is this thread
		f()
	}()
	<-done
}

//go:build linux || darwin

package evals

import (
	"runtime"
	"syscall"
)

// usage asks the system.
func usage() process {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return process{}
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	peak := int64(u.Maxrss)
	if runtime.GOOS == "linux" { // in kilobytes; on darwin in bytes
		peak *= 1024
	}
	return process{cpu: seconds(u.Utime) + seconds(u.Stime), peak: peak}
}

package processors

import (
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
)

var cores = runtime.GOMAXPROCS(0)

// Cores is how many processors this process may use at a time: those of the
// machine, or what its container or GOMAXPROCS allows.
func Cores() int { return cores }

// Serve makes a process ready to answer callers beside long computations, which
// are those that LongTurn calls. It is called before there is a caller.
func Serve() {
	serving.Store(true)
	shortTurns()
}

// LongTurn calls f, a computation of a millisecond or more, which is not to keep
// others from a processor.
func LongTurn(f func()) {
	if serving.Load() {
		widen()
	}
	inLongTurn(f)
}

// Start starts a process that computes: its threads have long turns, as what they
// are started with is theirs.
func Start(c *exec.Cmd) (err error) {
	inLongTurn(func() { err = c.Start() })
	return err
}

var (
	serving atomic.Bool
	widened sync.Once
)

// widen makes room for as many goroutines again as there are cores. A long
// computation in C holds one of the places that Go has for goroutines that run;
// with one on each core, a goroutine that becomes ready waits until the runtime's
// monitor finds time to take a place back. Who has no long computations does not
// pay for it: idle places cost small requests a part of their rate.
func widen() {
	widened.Do(func() { runtime.GOMAXPROCS(2 * cores) })
}

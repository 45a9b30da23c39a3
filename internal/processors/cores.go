package processors

import "runtime"

var cores = runtime.GOMAXPROCS(0)

// Cores is how many processors this process may use at a time: those of the
// machine, or what its container or GOMAXPROCS allows.
func Cores() int { return cores }

// Serve makes a process ready to answer callers beside long computations. It is
// called once, before there is a caller.
//
// A run of a graph holds one of the places that Go has for running goroutines,
// and there are as many as cores: with a run on each, a goroutine that becomes
// ready waits until the runtime's monitor finds time to take a place back. So
// there are twice as many. And Linux lets threads take short turns; see
// LongTurn.
func Serve() {
	runtime.GOMAXPROCS(2 * cores)
	shortTurns()
}

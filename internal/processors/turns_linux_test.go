package processors

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestTurns(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	LongTurn(func() {
		if got := turn(t); got == long {
			t.Error("turns are told before Serve")
		}
	})
	Serve()
	if got := runtime.GOMAXPROCS(0); Cores() != before || got != before {
		t.Errorf("%d cores and room for %d, there were %d", Cores(), got, before)
	}
	LongTurn(func() {
		if got := runtime.GOMAXPROCS(0); Cores() != before || got != 2*before {
			t.Errorf("beside a long computation %d cores and room for %d, there were %d", Cores(), got, before)
		}
	})
	if turn(t) != short {
		t.Skipf("this kernel does not tell turns apart: %v", turn(t))
	}
	LongTurn(func() {
		if got := turn(t); got != long {
			t.Errorf("turns of %v, want %v", got, long)
		}
		inside := make(chan time.Duration)
		go func() { inside <- turn(t) }()
		if got := <-inside; got != short {
			t.Errorf("another's are %v, want %v", got, short)
		}
	})
	func() {
		defer func() { _ = recover() }()
		LongTurn(func() { panic("a run") })
	}()
	if got := turn(t); got != short {
		t.Errorf("turns of %v after it, want %v", got, short)
	}
	Background(func() {
		if nice, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err != nil || nice >= 20 { // 20 less than it is said
			t.Errorf("%d, %v", nice, err)
		}
	})
}

// turn is how long this thread's turns are.
func turn(t *testing.T) time.Duration {
	t.Helper()
	a, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(a.Runtime)
}

//go:build !linux

package processors

func shortTurns() {}

// inLongTurn calls f; elsewhere than on Linux a thread's turns are not told.
func inLongTurn(f func()) { f() }

// Background calls f; elsewhere than on Linux priority is a process's.
func Background(f func()) { f() }

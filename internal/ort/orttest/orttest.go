// Package orttest gives tests the ONNX Runtime: it finds the library, obtains
// it where it is missing, and loads it.
package orttest

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"galley/internal/ort"
	"galley/internal/ort/library"
	"galley/onnx/session"
)

var load = sync.OnceValues(func() (*ort.Runtime, error) {
	if !ort.Enabled { // nothing to obtain it for
		return ort.Load("")
	}
	// Test processes of other packages may be obtaining it, too: Obtain waits.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	lib, err := library.Obtain(ctx, library.Options{Path: os.Getenv("GALLEY_ORT_LIB")}, os.Stderr)
	if err != nil {
		return nil, err
	}
	return ort.Load(lib.Path)
})

// Opener returns the runtime, or skips the test and says why there is none.
func Opener(t testing.TB) session.Opener {
	t.Helper()
	return Runtime(t)
}

// Runtime is Opener for tests of what only package ort has.
func Runtime(t testing.TB) *ort.Runtime {
	t.Helper()
	r, err := load()
	if err != nil {
		t.Skipf("no ONNX Runtime: %v", err)
	}
	return r
}

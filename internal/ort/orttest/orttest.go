// Package orttest gives tests the ONNX Runtime: it finds the library, obtains
// it where it is missing, and loads it.
package orttest

import (
	"os"
	"sync"
	"testing"

	"galley/internal/ort"
	"galley/internal/ort/library"
	"galley/onnx/session"
)

var open = sync.OnceValues(func() (*ort.Runtime, error) {
	lib, err := library.Find(library.Options{Path: os.Getenv("GALLEY_ORT_LIB")})
	if err != nil {
		return nil, err
	}
	return ort.Load(lib.Path)
})

// Opener returns the runtime, or skips the test with the reason why there is
// none.
func Opener(t testing.TB) session.Opener { return Runtime(t) }

// Runtime is Opener for tests of package ort's own surface.
func Runtime(t testing.TB) *ort.Runtime {
	t.Helper()
	r, err := open()
	if err != nil {
		t.Skipf("no ONNX Runtime: %v", err)
	}
	return r
}

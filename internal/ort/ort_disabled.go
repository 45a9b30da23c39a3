//go:build !cgo || windows

package ort

import (
	"context"

	"galley"
	"galley/onnx/session"
)

// Enabled says whether this build can load a library.
const Enabled = false

// A Runtime is a loaded ONNX Runtime; this build cannot load one.
type Runtime struct{}

var _ session.Opener = (*Runtime)(nil)

// Load says that this build cannot load a library.
func Load(path string) (*Runtime, error) { return nil, unavailable(path) }

// Runtime names the runtime.
func (r *Runtime) Runtime() string { return "onnxruntime (not in this build)" }

// Version is empty: nothing is loaded.
func (r *Runtime) Version() string { return "" }

// Path is empty: nothing is loaded.
func (r *Runtime) Path() string { return "" }

// Account is empty: no session can be opened.
func (r *Runtime) Account() Account { return Account{} }

// Trim does nothing: no session was opened.
func (r *Runtime) Trim() {}

// Open says that this build cannot run a model.
func (r *Runtime) Open(_ context.Context, _ []byte, opts session.Options) (session.Session, error) {
	return nil, unavailable(opts.Label)
}

// OpenFile says that this build cannot run a model.
func (r *Runtime) OpenFile(_ context.Context, path string, _ session.Options) (session.Session, error) {
	return nil, unavailable(path)
}

func unavailable(subject string) error {
	return galley.Errorf(galley.Unimplemented, subject, "this galley was built without cgo, so it cannot load ONNX Runtime").
		WithRemedy("build with CGO_ENABLED=1 and a C compiler")
}

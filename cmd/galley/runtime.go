package main

import (
	"context"
	"path/filepath"
	"runtime/debug"
	"sync"

	"galley"
	"galley/internal/ort"
	"galley/internal/ort/library"
	"galley/onnx/session"
)

// runtime is ONNX Runtime, loaded when the first model is opened: commands
// that run none work without it.
type runtime struct {
	options library.Options
	load    func() (*ort.Runtime, error)
}

var _ session.Opener = (*runtime)(nil)

func (a *app) newRuntime() *runtime {
	r := &runtime{options: a.libraryOptions()}
	r.load = sync.OnceValues(func() (*ort.Runtime, error) {
		lib, err := library.Find(r.options)
		if err != nil {
			return nil, galley.Errorf(galley.FailedPrecondition, "ONNX Runtime", "%w", err).
				WithRemedy("run `galley doctor --fix`, or set GALLEY_ORT_LIB to the library")
		}
		return ort.Load(lib.Path)
	})
	return r
}

func (a *app) libraryOptions() library.Options {
	o := library.Options{Path: a.library}
	if a.cache != "" {
		o.Cache = filepath.Join(a.cache, "onnxruntime")
	}
	return o
}

// Open implements session.Opener.
func (r *runtime) Open(ctx context.Context, model []byte, opts session.Options) (session.Session, error) {
	loaded, err := r.load()
	if err != nil {
		return nil, err
	}
	return loaded.Open(ctx, model, opts)
}

// OpenFile implements session.Opener.
func (r *runtime) OpenFile(ctx context.Context, path string, opts session.Options) (session.Session, error) {
	loaded, err := r.load()
	if err != nil {
		return nil, err
	}
	return loaded.OpenFile(ctx, path, opts)
}

// Runtime implements session.Opener; a runtime that is missing has no name.
func (r *runtime) Runtime() string {
	loaded, err := r.load()
	if err != nil {
		return ""
	}
	return loaded.Runtime()
}

// trim gives the memory of closed sessions back to the system.
func (r *runtime) trim() {
	if loaded, err := r.load(); err == nil {
		loaded.Trim()
	}
	debug.FreeOSMemory()
}

//go:build cgo && !windows

package ort

// #cgo CFLAGS: -O2 -std=c11
// #cgo LDFLAGS: -ldl
// #include <stdlib.h>
// #include "api.h"
import "C"

import (
	"context"
	"errors"
	"unsafe"

	"galley"
)

// loadAPI fetches the function table of the library that the binding loaded.
func loadAPI(path string) error {
	p := C.CString(path)
	defer C.free(unsafe.Pointer(p))
	if why := C.api_load(p, apiVersion); why != nil {
		return errors.New(C.GoString(why))
	}
	return nil
}

// check turns a status into an error about subject, and frees it.
func check(status *C.OrtStatus, subject, doing string) error {
	if status == nil {
		return nil
	}
	code := statusCode(int(C.api_status_code(status)))
	message := C.GoString(C.api_status_message(status))
	C.api_status_release(status)
	return &galley.Error{Code: code, Subject: subject, Message: doing + ": " + message}
}

// runOptions let a context end a run.
type runOptions struct{ native *C.OrtRunOptions }

func newRunOptions(subject string) (*runOptions, error) {
	o := &runOptions{}
	if err := check(C.api_run_options(&o.native), subject, "run options"); err != nil {
		return nil, err
	}
	return o, nil
}

// during calls run; while it lasts, the end of ctx terminates it. The runtime
// looks at the flag between two operators, so a run outlives its context by
// one operator at most.
func (o *runOptions) during(ctx context.Context, subject string, run func() *C.OrtStatus) error {
	if err := ctx.Err(); err != nil {
		return interrupted(subject, err)
	}
	if ctx.Done() == nil {
		return check(run(), subject, "run")
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = check(C.api_terminate(o.native, 1), subject, "terminate")
	})
	err := check(run(), subject, "run")
	if !stop() {
		<-ended
		if clear := check(C.api_terminate(o.native, 0), subject, "run options"); clear != nil {
			return clear
		}
		if err != nil {
			return interrupted(subject, ctx.Err())
		}
	}
	return err
}

func (o *runOptions) release() { C.api_run_options_release(o.native) }

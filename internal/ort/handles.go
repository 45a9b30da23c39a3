//go:build cgo && !windows

package ort

// #include "api.h"
import "C"

import (
	"context"
	"reflect"
	"unsafe"

	yalue "github.com/yalue/onnxruntime_go"

	"galley"
)

// The binding keeps its native handles in unexported fields; these functions
// read them, and fail if a later version of it has others.

// sessionHandle is the native session of the binding's.
func sessionHandle(s *yalue.DynamicAdvancedSession) (*C.OrtSession, error) {
	inner := reflect.ValueOf(s).Elem().FieldByName("s")
	if inner.Kind() != reflect.Pointer || inner.IsNil() {
		return nil, otherForm("session")
	}
	p, err := pointerField(inner, "ortSession")
	return (*C.OrtSession)(p), err
}

// optionsHandle is the native form of the binding's session options.
func optionsHandle(o *yalue.SessionOptions) (*C.OrtSessionOptions, error) {
	p, err := pointerField(reflect.ValueOf(o), "o")
	return (*C.OrtSessionOptions)(p), err
}

func pointerField(v reflect.Value, name string) (unsafe.Pointer, error) {
	f := v.Elem().FieldByName(name)
	if f.Kind() != reflect.Pointer || f.IsNil() {
		return nil, otherForm(name)
	}
	return f.UnsafePointer(), nil
}

func otherForm(what string) error {
	return galley.Errorf(galley.Internal, "onnxruntime_go", "the binding's %s has another form than in v1.27.0", what)
}

// loading calls create; the end of ctx meanwhile ends it.
func loading(ctx context.Context, o *yalue.SessionOptions, subject string,
	create func(*yalue.SessionOptions) (*yalue.DynamicAdvancedSession, error)) (*yalue.DynamicAdvancedSession, error) {
	native, err := optionsHandle(o)
	if err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = check(C.api_cancel_load(native), subject, "cancel loading")
	})
	s, err := create(o)
	if !stop() {
		<-ended // the options go away next
	}
	if err == nil {
		return s, nil
	}
	if ctx.Err() != nil {
		return nil, interrupted(subject, ctx.Err())
	}
	return nil, galley.Errorf(galley.InvalidArgument, subject, "cannot be loaded: %w", err).
		WithRemedy("check the graph: galley models import says what is wrong with it")
}

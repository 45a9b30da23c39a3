//go:build cgo && !windows

package ort

// #include "api.h"
import "C"

import (
	"context"
	"runtime"
	"slices"
	"unsafe"

	"galley"
	"galley/onnx"
	"galley/onnx/session"
)

// A binding is a session's inputs and outputs fixed to memory.
type binding struct {
	model *model
	held  *held
	// cleanup closes a binding that its owner has forgotten.
	cleanup runtime.Cleanup
}

// held is what a binding holds of the runtime's.
type held struct {
	native  *C.OrtIoBinding
	options *runOptions
	inputs  map[string]*value
	outputs map[string]*value          // bound to memory; nil for automatic ones
	order   []string                   // outputs as the runtime numbers them
	fetched map[string]*session.Tensor // automatic outputs of the last run
	ran     bool
}

// Bind makes a binding; it keeps the session until it is closed. Numeric
// tensors are read and written where they lie at each run; the strings of a
// String input are copied when they are bound.
func (m *model) Bind() (session.Binding, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	h := &held{inputs: map[string]*value{}, outputs: map[string]*value{}}
	var err error
	if h.options, err = newRunOptions(m.label); err != nil {
		m.leave()
		return nil, err
	}
	if err := check(C.api_binding(m.native, &h.native), m.label, "binding"); err != nil {
		h.options.release()
		m.leave()
		return nil, err
	}
	b := &binding{model: m, held: h}
	b.cleanup = runtime.AddCleanup(b, func(h *held) {
		h.fetched = nil // whoever forgot the binding may still read them
		h.release()
		m.leave()
	}, h)
	return b, nil
}

// Input binds an input.
func (b *binding) Input(name string, t *session.Tensor) error {
	h, err := b.open()
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(b) // else its cleanup might run meanwhile
	want, err := b.model.declaredInput(name)
	if err != nil {
		return err
	}
	v, err := b.model.feed(t, want)
	if err != nil {
		return err
	}
	if err := check(C.api_bind_input(h.native, b.model.names[name], v.native), of("input", name, b.model.label), "bind"); err != nil {
		v.release()
		return err
	}
	h.inputs[name].release()
	h.inputs[name] = v
	return nil
}

// Output binds an output to memory of the exact shape it will have.
func (b *binding) Output(name string, t *session.Tensor) error {
	h, err := b.open()
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(b) // else its cleanup might run meanwhile
	want, err := b.model.declaredOutput(name)
	if err != nil {
		return err
	}
	subject := of("output", name, b.model.label)
	if err := matches(t, want, subject); err != nil {
		return err
	}
	if t.Type == onnx.String {
		return galley.Errorf(galley.InvalidArgument, subject, "strings cannot be bound to memory").
			WithRemedy("bind it with OutputAuto")
	}
	v, err := newValue(t, subject)
	if err != nil {
		return err
	}
	if err := check(C.api_bind_output(h.native, b.model.names[name], v.native), subject, "bind"); err != nil {
		v.release()
		return err
	}
	h.bound(name, v)
	return nil
}

// OutputAuto lets the runtime allocate an output anew at each run.
func (b *binding) OutputAuto(name string) error {
	h, err := b.open()
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(b) // else its cleanup might run meanwhile
	if _, err := b.model.declaredOutput(name); err != nil {
		return err
	}
	if err := check(C.api_bind_output_auto(h.native, b.model.names[name]), of("output", name, b.model.label), "bind"); err != nil {
		return err
	}
	h.bound(name, nil)
	return nil
}

// Run runs the model over what is bound.
func (b *binding) Run(ctx context.Context) error {
	h, err := b.open()
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(b) // else its cleanup might run meanwhile
	if len(h.inputs) < len(b.model.inputs) {
		return b.model.missing(func(name string) bool { return h.inputs[name] != nil })
	}
	if len(h.order) == 0 {
		return galley.Errorf(galley.InvalidArgument, b.model.label, "no output is bound; the model gives %s", list(b.model.outputs))
	}
	h.drop()
	for _, name := range h.order {
		// The last run's tensor would be written into again, whatever shape
		// this run's has.
		if h.outputs[name] == nil {
			if err := check(C.api_bind_output_auto(h.native, b.model.names[name]), of("output", name, b.model.label), "bind"); err != nil {
				return err
			}
		}
	}
	err = h.options.during(ctx, b.model.label, func() *C.OrtStatus {
		return C.api_run_binding(b.model.native, h.options.native, h.native)
	})
	h.ran = err == nil
	return err
}

// Fetch returns an output bound by OutputAuto.
func (b *binding) Fetch(name string) (*session.Tensor, error) {
	h, err := b.open()
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(b)
	subject := of("output", name, b.model.label)
	if v, ok := h.outputs[name]; !ok || v != nil {
		return nil, galley.Errorf(galley.FailedPrecondition, subject, "not bound with OutputAuto")
	}
	if !h.ran {
		return nil, galley.Errorf(galley.FailedPrecondition, subject, "no run has succeeded since it was bound")
	}
	if h.fetched == nil {
		if err := b.fetchAll(); err != nil {
			return nil, err
		}
	}
	return h.fetched[name], nil
}

// fetchAll wraps the automatic outputs of the last run.
func (b *binding) fetchAll() error {
	h := b.held
	var array **C.OrtValue
	var n C.size_t
	if err := check(C.api_bound_outputs(h.native, &array, &n), b.model.label, "outputs"); err != nil {
		return err
	}
	if n == 0 {
		return galley.Errorf(galley.Internal, b.model.label, "the runtime returned no outputs")
	}
	defer C.api_free(unsafe.Pointer(array))
	h.fetched = map[string]*session.Tensor{}
	var failed error
	for i, native := range unsafe.Slice(array, n) {
		if i >= len(h.order) || h.outputs[h.order[i]] != nil || failed != nil {
			C.api_value_release(native)
			continue
		}
		t, err := wrap(native, of("output", h.order[i], b.model.label))
		if err != nil {
			C.api_value_release(native)
			failed = err
			continue
		}
		h.fetched[h.order[i]] = t
	}
	if failed != nil {
		h.drop()
	}
	return failed
}

// Close gives the binding back; a second call does nothing.
func (b *binding) Close() error {
	if b.held == nil {
		return nil
	}
	b.cleanup.Stop()
	b.held.release()
	b.held = nil
	b.model.leave()
	return nil
}

func (b *binding) open() (*held, error) {
	if b.held == nil {
		return nil, galley.Errorf(galley.FailedPrecondition, b.model.label, "the binding is closed")
	}
	return b.held, nil
}

// bound notes that an output is bound to v, or is automatic if v is nil.
func (h *held) bound(name string, v *value) {
	h.drop()
	h.outputs[name].release()
	h.outputs[name] = v
	if !slices.Contains(h.order, name) {
		h.order = append(h.order, name)
	}
}

// drop releases the automatic outputs of the last run.
func (h *held) drop() {
	for _, t := range h.fetched {
		t.Close()
	}
	h.fetched, h.ran = nil, false
}

func (h *held) release() {
	h.drop()
	C.api_binding_release(h.native)
	for _, v := range h.inputs {
		v.release()
	}
	for _, v := range h.outputs {
		v.release()
	}
	h.options.release()
}

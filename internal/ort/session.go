//go:build cgo && !windows

package ort

// #include <stdlib.h>
// #include "api.h"
import "C"

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unsafe"

	yalue "github.com/yalue/onnxruntime_go"

	"galley"
	"galley/onnx"
	"galley/onnx/session"
)

// A model is an open session.
//
// Close refuses further runs and bindings at once and waits for nothing; the
// memory goes when the last run in flight has returned and the last binding
// is closed. Closing twice does nothing.
type model struct {
	runtime *Runtime
	label   string
	native  *C.OrtSession
	owner   *yalue.DynamicAdvancedSession
	inputs  []onnx.Value
	outputs []onnx.Value
	input   map[string]int
	output  map[string]int
	names   map[string]*C.char // of inputs and outputs, freed with the session
	fed     []string           // what errors call the inputs
	given   []string           // and the outputs
	bytes   int64

	options sync.Pool // of *runOptions, between runs

	mu     sync.Mutex
	users  int // runs in flight and open bindings
	closed bool
}

// newSession reads the inputs and outputs of a session that the binding made.
func newSession(r *Runtime, owner *yalue.DynamicAdvancedSession, label string, modelBytes int64) (*model, error) {
	native, err := sessionHandle(owner)
	if err != nil {
		return nil, err
	}
	m := &model{runtime: r, label: label, native: native, owner: owner,
		input: map[string]int{}, output: map[string]int{}}
	var nIn, nOut C.size_t
	if err := check(C.api_session_counts(native, &nIn, &nOut), label, "signature"); err != nil {
		return nil, err
	}
	for i := range int(nIn) {
		v, err := signature(native, false, i, label)
		if err != nil {
			return nil, err
		}
		m.input[v.Name] = i
		m.inputs = append(m.inputs, v)
		m.fed = append(m.fed, of("input", v.Name, label))
	}
	for i := range int(nOut) {
		v, err := signature(native, true, i, label)
		if err != nil {
			return nil, err
		}
		m.output[v.Name] = i
		m.outputs = append(m.outputs, v)
		m.given = append(m.given, of("output", v.Name, label))
	}
	m.names = map[string]*C.char{}
	for _, v := range slices.Concat(m.inputs, m.outputs) {
		if m.names[v.Name] == nil {
			m.names[v.Name] = C.CString(v.Name)
		}
	}
	m.bytes = m.measure(modelBytes)
	r.account.add(1, m.bytes)
	return m, nil
}

// measure tells what the session holds: its arena, where the weights lie that
// the runtime has laid out anew, or the model's size where there is no arena
// or it is not used yet.
func (m *model) measure(modelBytes int64) int64 {
	var arena C.int64_t
	if err := check(C.api_session_memory(m.native, &arena), m.label, "memory"); err != nil {
		return modelBytes
	}
	return max(int64(arena), modelBytes)
}

// Inputs returns what the model takes.
func (m *model) Inputs() []onnx.Value { return slices.Clone(m.inputs) }

// Outputs returns what the model gives.
func (m *model) Outputs() []onnx.Value { return slices.Clone(m.outputs) }

// Bytes is what the session held when it was opened.
func (m *model) Bytes() int64 { return m.bytes }

// Close refuses further use; see model.
func (m *model) Close() error {
	m.mu.Lock()
	closed := m.closed
	m.closed = true
	idle := m.users == 0
	m.mu.Unlock()
	if !closed && idle {
		m.free()
	}
	return nil
}

// enter takes part in the session's life until leave.
func (m *model) enter() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return galley.Errorf(galley.FailedPrecondition, m.label, "the session is closed")
	}
	m.users++
	return nil
}

func (m *model) leave() {
	m.mu.Lock()
	m.users--
	last := m.closed && m.users == 0
	m.mu.Unlock()
	if last {
		m.free()
	}
}

func (m *model) free() {
	_ = m.owner.Destroy()
	for _, p := range m.names {
		C.free(unsafe.Pointer(p))
	}
	m.names = nil
	m.runtime.account.add(-1, -m.bytes)
}

// Run feeds inputs and returns outputs that the runtime allocated.
func (m *model) Run(ctx context.Context, inputs map[string]*session.Tensor, outputs ...string) (map[string]*session.Tensor, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	if len(outputs) == 0 {
		for _, v := range m.outputs {
			outputs = append(outputs, v.Name)
		}
	}
	outNames := make([]*C.char, len(outputs))
	for i, name := range outputs {
		if _, err := m.declaredOutput(name); err != nil {
			return nil, err
		}
		if slices.Contains(outputs[:i], name) {
			return nil, galley.Errorf(galley.InvalidArgument, of("output", name, m.label), "asked for twice")
		}
		outNames[i] = m.names[name]
	}
	for name := range inputs {
		if _, err := m.declaredInput(name); err != nil {
			return nil, err
		}
	}
	inNames := make([]*C.char, len(m.inputs))
	fed := make([]*C.OrtValue, len(m.inputs))
	for i, want := range m.inputs {
		t, ok := inputs[want.Name]
		if !ok {
			return nil, m.missing(func(name string) bool { return inputs[name] != nil })
		}
		v, err := m.feed(t, want)
		if err != nil {
			return nil, err
		}
		defer v.release()
		inNames[i], fed[i] = m.names[want.Name], v.native
	}
	o, err := m.takeOptions()
	if err != nil {
		return nil, err
	}
	defer m.options.Put(o)
	got := make([]*C.OrtValue, len(outputs))
	err = o.during(ctx, m.label, func() *C.OrtStatus {
		return C.api_run(m.native, o.native, unsafe.SliceData(inNames), unsafe.SliceData(fed), C.size_t(len(fed)),
			unsafe.SliceData(outNames), C.size_t(len(got)), unsafe.SliceData(got))
	})
	if err != nil {
		return nil, err
	}
	return m.collect(outputs, got)
}

// takeOptions returns run options that no other run uses.
func (m *model) takeOptions() (*runOptions, error) {
	if o, ok := m.options.Get().(*runOptions); ok {
		return o, nil
	}
	o, err := newRunOptions(m.label)
	if err == nil {
		// The pool forgets what is not used for long.
		runtime.AddCleanup(o, func(native *C.OrtRunOptions) { C.api_run_options_release(native) }, o.native)
	}
	return o, err
}

// feed makes the value of an input.
func (m *model) feed(t *session.Tensor, want onnx.Value) (*value, error) {
	subject := m.fed[m.input[want.Name]]
	if err := matches(t, want, subject); err != nil {
		return nil, err
	}
	return newValue(t, subject)
}

// collect wraps the outputs of a run; on an error it releases them all.
func (m *model) collect(names []string, got []*C.OrtValue) (map[string]*session.Tensor, error) {
	out := make(map[string]*session.Tensor, len(got))
	for i, native := range got {
		t, err := wrap(native, m.given[m.output[names[i]]])
		if err != nil {
			for _, rest := range got[i:] {
				C.api_value_release(rest)
			}
			for _, t := range out {
				t.Close()
			}
			return nil, err
		}
		out[names[i]] = t
	}
	return out, nil
}

func (m *model) declaredInput(name string) (onnx.Value, error) {
	i, ok := m.input[name]
	if !ok {
		return onnx.Value{}, galley.Errorf(galley.InvalidArgument, of("input", name, m.label),
			"no such input; the model takes %s", list(m.inputs))
	}
	return m.inputs[i], nil
}

func (m *model) declaredOutput(name string) (onnx.Value, error) {
	i, ok := m.output[name]
	if !ok {
		return onnx.Value{}, galley.Errorf(galley.InvalidArgument, of("output", name, m.label),
			"no such output; the model gives %s", list(m.outputs))
	}
	return m.outputs[i], nil
}

// missing is the error that names every input that has is false for.
func (m *model) missing(has func(name string) bool) error {
	var missing []onnx.Value
	for _, v := range m.inputs {
		if !has(v.Name) {
			missing = append(missing, v)
		}
	}
	return galley.Errorf(galley.InvalidArgument, m.label, "not fed: %s", list(missing))
}

// list writes values as `ids int64 [batch,128], mask int64 [batch,128]`.
func list(values []onnx.Value) string {
	var out []string
	for _, v := range values {
		out = append(out, v.Name+" "+v.Type.String()+" "+v.Shape.String())
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

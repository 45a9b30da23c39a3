// Package session says what it is to run an ONNX graph: tensors in memory,
// an Opener that turns a model's bytes into a Session, and bindings that run
// without copying.
//
// internal/ort implements it over ONNX Runtime. Packages that run models take
// an Opener; none of them imports the runtime.
package session

import (
	"context"

	"galley/onnx"
)

// An Opener makes sessions. It may be used by several goroutines at once.
type Opener interface {
	// Open loads a model's bytes. The bytes may be reused once Open returns.
	Open(ctx context.Context, model []byte, opts Options) (Session, error)
	// OpenFile loads a model from a file, with external data beside it.
	OpenFile(ctx context.Context, path string, opts Options) (Session, error)
	// Runtime names the implementation and its version, as lineage records
	// it: "onnxruntime 1.30.0".
	Runtime() string
}

// A Session runs one model. Run may be called by several goroutines at once.
// Close waits for no one: the caller closes after its last Run has returned.
type Session interface {
	Inputs() []onnx.Value
	Outputs() []onnx.Value
	// Run feeds inputs by name and returns the named outputs (all, if none
	// is named). The returned tensors belong to the caller, who closes them.
	Run(ctx context.Context, inputs map[string]*Tensor, outputs ...string) (map[string]*Tensor, error)
	// Bind makes a binding: inputs and outputs fixed to memory once, run
	// many times without copying. A binding is for one goroutine.
	Bind() (Binding, error)
	// Bytes is what the session was measured to hold in memory when opened.
	Bytes() int64
	Close() error
}

// A Binding holds a session's inputs and outputs. Tensors bound must stay
// alive and unclosed until Close or until bound anew.
type Binding interface {
	Input(name string, t *Tensor) error
	// Output binds an output to memory of the exact shape it will have.
	Output(name string, t *Tensor) error
	// OutputAuto lets the runtime allocate an output anew at each run; fetch
	// it with Fetch after the run.
	OutputAuto(name string) error
	Run(ctx context.Context) error
	// Fetch returns an output bound by OutputAuto; valid until the next Run
	// or Close, and not closed by the caller.
	Fetch(name string) (*Tensor, error)
	Close() error
}

// Options configure a session. The zero value is one thread per core, all
// standard graph optimisations, memory arena on.
type Options struct {
	Threads         int    // intra-operator threads; 0 is one per core
	Optimize        Level  // how far the graph is rewritten
	NoArena         bool   // give memory back after each run
	NoMemoryPattern bool   // for inputs whose shapes change at every run
	NoSpinning      bool   // idle threads sleep at once instead of spinning
	Label           string // names the session in errors and accounts
}

// A Level says how far the runtime may rewrite a graph.
type Level int

// The levels; the zero value allows all rewrites.
const (
	OptimizeAll Level = iota
	OptimizeExtended
	OptimizeBasic
	OptimizeNone
)

package serving

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"galley"
	"galley/onnx/session"
	"galley/registry"
	"galley/task"
)

// A Servable is an open version: it maps named tensors to named tensors.
type Servable struct {
	Version   registry.Version
	Signature task.Signature
	Platform  string // what runs it, as the protocol's metadata name it

	infer      func(ctx context.Context, r *recorder, inputs map[string]*session.Tensor) (answer, error)
	load       func() int // runs, and requests that wait; nil if that is not known
	closeModel func() error
	recorder   *recorder // set by the table
}

// An answer is a request's outputs and what they took.
type answer struct {
	outputs    map[string]*session.Tensor
	inferences int
	times      timing
}

// Infer answers one request. Inputs are checked against the signature; the
// outputs belong to the caller, who closes them.
func (s *Servable) Infer(ctx context.Context, inputs map[string]*session.Tensor) (map[string]*session.Tensor, error) {
	began := time.Now()
	a, err := answer{}, errPanicked
	defer func() {
		if err != nil && context.Cause(ctx) == errGaveWay {
			return // it is asked again
		}
		now := time.Now()
		s.recorder.answered(now, a.inferences, now.Sub(began), a.times, err)
		noteTimes(ctx, began, a.times)
	}()
	if err = s.check(inputs); err != nil {
		return nil, err
	}
	err = errPanicked
	a, err = s.infer(ctx, s.recorder, inputs)
	return a.outputs, err
}

// Refuse counts a request for this version that was found wrong before it came
// to Infer.
func (s *Servable) Refuse(err error) { s.recorder.answered(time.Now(), 0, 0, timing{}, err) }

// errPanicked is what a request counts as that neither was answered nor failed.
var errPanicked error = galley.Errorf(galley.Internal, "request", "its run panicked")

func (s *Servable) close() {
	// Nobody waits for it, and what cannot be closed cannot be helped.
	_ = s.closeModel()
}

// check holds a request's inputs against the signature.
func (s *Servable) check(inputs map[string]*session.Tensor) error {
	for _, want := range s.Signature.Inputs {
		got, ok := inputs[want.Name]
		if !ok {
			return galley.Errorf(galley.InvalidArgument, want.Name, "the input is missing").
				WithRemedy("%s takes %s", s.Version.Ref(), s.describe())
		}
		if name := task.Datatype(got.Type); name != want.Datatype {
			return galley.Errorf(galley.InvalidArgument, want.Name, "its datatype is %s instead of %s", name, want.Datatype)
		}
		if !fits(got.Shape, want.Shape) {
			return galley.Errorf(galley.InvalidArgument, want.Name, "its shape is %v instead of %v", got.Shape, want.Shape).
				WithRemedy("-1 stands for any size")
		}
	}
	for name := range inputs {
		if !slices.ContainsFunc(s.Signature.Inputs, func(f task.Field) bool { return f.Name == name }) {
			return galley.Errorf(galley.InvalidArgument, name, "is not an input of %s", s.Version.Ref()).
				WithRemedy("it takes %s", s.describe())
		}
	}
	return nil
}

// describe lists the inputs for a message.
func (s *Servable) describe() string {
	var parts []string
	for _, f := range s.Signature.Inputs {
		parts = append(parts, fmt.Sprintf("%s %s %v", f.Name, f.Datatype, f.Shape))
	}
	return strings.Join(parts, ", ")
}

// fits reports whether sizes are possible for a shape, in which -1 is any.
func fits(sizes, shape []int64) bool {
	if shape == nil {
		return true
	}
	if len(sizes) != len(shape) {
		return false
	}
	for i, want := range shape {
		if want >= 0 && want != sizes[i] {
			return false
		}
	}
	return true
}

// platform is what the protocol's metadata call ONNX graphs.
const platform = "onnxruntime_onnx"

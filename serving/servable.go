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

	infer      func(ctx context.Context, inputs map[string]*session.Tensor) (map[string]*session.Tensor, error)
	closeModel func() error
	recorder   *recorder // set by the table
}

// Infer answers one request. Inputs are checked against the signature; the
// outputs belong to the caller, who closes them.
func (s *Servable) Infer(ctx context.Context, inputs map[string]*session.Tensor) (map[string]*session.Tensor, error) {
	began := time.Now()
	err := s.check(inputs)
	var outputs map[string]*session.Tensor
	if err == nil {
		outputs, err = s.infer(ctx, inputs)
	}
	now := time.Now()
	s.recorder.answered(now, 1, now.Sub(began), timing{infer: now.Sub(began)}, err)
	return outputs, err
}

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

// MaxTexts bounds the texts of one request.
const MaxTexts = 4096

// NewTextClassifier serves a text classifier: texts in, labels and scores out.
// The servable closes the session.
func NewTextClassifier(v registry.Version, c *task.TextClassifier, s session.Session) (*Servable, error) {
	signature, err := c.Config.Signature()
	if err != nil {
		return nil, err
	}
	predictor, err := task.NewTextPredictor(c, s)
	if err != nil {
		return nil, err
	}
	return &Servable{
		Version: v, Signature: signature, Platform: platform,
		closeModel: s.Close,
		infer: func(ctx context.Context, inputs map[string]*session.Tensor) (map[string]*session.Tensor, error) {
			texts := inputs["text"].Strings()
			if len(texts) > MaxTexts {
				return nil, galley.Errorf(galley.InvalidArgument, "text", "%d texts in one request", len(texts)).
					WithRemedy("send at most %d a request", MaxTexts)
			}
			predictions, err := predictor.Predict(ctx, texts)
			if err != nil {
				return nil, err
			}
			return classificationTensors(predictions, len(c.Config.Labels))
		},
	}, nil
}

func classificationTensors(predictions []task.Classification, classes int) (map[string]*session.Tensor, error) {
	n := int64(len(predictions))
	labels := make([]string, n)
	score := make([]float32, n)
	scores := make([]float32, 0, int(n)*classes)
	truncated := make([]bool, n)
	for i, p := range predictions {
		labels[i], score[i], truncated[i] = p.Label, p.Score, p.Truncated
		scores = append(scores, p.Scores...)
	}
	out := map[string]*session.Tensor{}
	var err error
	if out["label"], err = session.NewStrings(labels, n); err != nil {
		return nil, err
	}
	if out["score"], err = session.New(score, n); err != nil {
		return nil, err
	}
	if out["truncated"], err = session.New(truncated, n); err != nil {
		return nil, err
	}
	out["scores"], err = session.New(scores, n, int64(classes))
	return out, err
}

// NewGraph serves a graph without a task: its own inputs and outputs.
func NewGraph(v registry.Version, s session.Session) *Servable {
	return &Servable{
		Version: v, Signature: task.GraphSignature(s.Inputs(), s.Outputs()), Platform: platform,
		closeModel: s.Close,
		infer: func(ctx context.Context, inputs map[string]*session.Tensor) (map[string]*session.Tensor, error) {
			return s.Run(ctx, inputs)
		},
	}
}

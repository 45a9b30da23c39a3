package serving

import (
	"context"

	"galley"
	"galley/onnx"
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
}

// Infer answers one request. Inputs are checked against the signature; the
// outputs belong to the caller, who closes them.
func (s *Servable) Infer(ctx context.Context, inputs map[string]*session.Tensor) (map[string]*session.Tensor, error) {
	if err := s.check(inputs); err != nil {
		return nil, err
	}
	return s.infer(ctx, inputs)
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
				WithRemedy("model %s takes %s", s.Version.Ref(), s.Signature.Describe())
		}
		if got.Type != want.Type {
			return galley.Errorf(galley.InvalidArgument, want.Name, "has element type %s instead of %s", got.Type, want.Type)
		}
		if !fits(got.Shape, want.Shape) {
			return galley.Errorf(galley.InvalidArgument, want.Name, "has shape %v instead of %s", got.Shape, want.Shape)
		}
	}
	for name := range inputs {
		if !s.Signature.HasInput(name) {
			return galley.Errorf(galley.InvalidArgument, name, "is not an input of %s", s.Version.Ref()).
				WithRemedy("it takes %s", s.Signature.Describe())
		}
	}
	return nil
}

// fits reports whether sizes are possible for a shape.
func fits(sizes []int64, shape onnx.Shape) bool {
	if shape == nil {
		return true
	}
	if len(sizes) != len(shape) {
		return false
	}
	for i, d := range shape {
		if d.Size >= 0 && d.Size != sizes[i] {
			return false
		}
	}
	return true
}

// MaxTexts bounds the texts of one request.
const MaxTexts = 4096

// NewTextClassifier serves a text classifier: texts in, labels and scores out.
func NewTextClassifier(v registry.Version, c *task.TextClassifier, s session.Session) *Servable {
	predictor := task.NewTextPredictor(c, s)
	return &Servable{
		Version: v, Signature: c.Signature(), Platform: "onnxruntime_onnx",
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
	}
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
		Version: v, Signature: task.GraphSignature(s.Inputs(), s.Outputs()), Platform: "onnxruntime_onnx",
		closeModel: s.Close,
		infer: func(ctx context.Context, inputs map[string]*session.Tensor) (map[string]*session.Tensor, error) {
			return s.Run(ctx, inputs)
		},
	}
}

package rpc

import (
	"context"
	"slices"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	newsroompb "galley/api/newsroom/v1"

	"galley"
	"galley/internal/control"
	"galley/onnx/session"
	"galley/serving"
	"galley/task"
)

// A Newsroom answers typed inference with the versions that answer the Open
// Inference Protocol.
type Newsroom struct {
	newsroompb.UnimplementedNewsroomServer
	inference *Inference
	control   *control.Control
}

var _ newsroompb.NewsroomServer = (*Newsroom)(nil)

// NewNewsroom makes the handlers over s; feedback goes to c.
func NewNewsroom(s *Inference, c *control.Control) *Newsroom {
	return &Newsroom{inference: s, control: c}
}

// Classify gives each text the most probable of a model's labels.
func (n *Newsroom) Classify(ctx context.Context, r *newsroompb.ClassifyRequest) (*newsroompb.ClassifyResponse, error) {
	answer, err := n.classify(ctx, r)
	return answer, statusOf(err)
}

func (n *Newsroom) classify(ctx context.Context, r *newsroompb.ClassifyRequest) (*newsroompb.ClassifyResponse, error) {
	texts, err := textsOf(r)
	if err != nil {
		return nil, err
	}
	lease, err := n.inference.acquireFor(ctx, "model", r.GetModel(), r.GetVersion(), r.GetRequestKey())
	if err != nil {
		n.inference.Metrics.refused(err)
		return nil, err
	}
	defer lease.Release()
	if err := classifies(lease); err != nil {
		lease.Refuse(err)
		return nil, err
	}
	input, err := session.NewStrings(texts, int64(len(texts)))
	if err != nil {
		return nil, err
	}
	outputs, err := lease.Infer(ctx, map[string]*session.Tensor{"text": input})
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, t := range outputs {
			t.Close()
		}
	}()
	return &newsroompb.ClassifyResponse{
		Model: lease.Version.Ref(), PredictionId: n.inference.predictionID(lease, outputs), Outputs: classifications(lease.Version.Labels, outputs),
	}, nil
}

// textsOf reads the texts of a request.
func textsOf(r *newsroompb.ClassifyRequest) ([]string, error) {
	texts := r.GetTexts()
	switch {
	case r.GetText() != "" && len(texts) > 0:
		return nil, galley.Errorf(galley.InvalidArgument, "text", "is given beside texts").WithRemedy("send one of them")
	case r.GetText() != "":
		texts = []string{r.GetText()}
	case len(texts) == 0:
		return nil, galley.Errorf(galley.InvalidArgument, "text", "is missing").WithRemedy("send text, or texts for several")
	case len(texts) > serving.MaxTexts:
		return nil, galley.Errorf(galley.InvalidArgument, "texts", "%d texts in one request", len(texts)).
			WithRemedy("send at most %d a request", serving.MaxTexts)
	}
	if i := slices.IndexFunc(texts, func(s string) bool { return !utf8.ValidString(s) }); i >= 0 {
		return nil, galley.Errorf(galley.InvalidArgument, "texts", "text %d is not valid UTF-8", i+1).WithRemedy("convert it to UTF-8")
	}
	return texts, nil
}

// classifies holds that a model takes texts and gives labels.
func classifies(lease *serving.Lease) error {
	has := func(fields []task.Field, names ...string) bool {
		for _, name := range names {
			if !slices.ContainsFunc(fields, func(f task.Field) bool { return f.Name == name }) {
				return false
			}
		}
		return true
	}
	if has(lease.Signature.Inputs, "text") && has(lease.Signature.Outputs, "label", "score", "scores", "truncated") {
		return nil
	}
	return galley.Errorf(galley.FailedPrecondition, lease.Version.Ref(), "does not classify texts").
		WithRemedy("ask it over the Open Inference Protocol, with tensors")
}

// classifications reads a classifier's outputs; labels are in the order of the
// scores.
func classifications(labels []string, outputs map[string]*session.Tensor) []*newsroompb.Classification {
	label, score := outputs["label"].Strings(), session.Data[float32](outputs["score"])
	scores, truncated := session.Data[float32](outputs["scores"]), session.Data[bool](outputs["truncated"])
	out := make([]*newsroompb.Classification, len(label))
	for i := range label {
		classes := len(scores) / len(label)
		out[i] = &newsroompb.Classification{Label: label[i], Score: score[i], Truncated: truncated[i]}
		if classes != len(labels) {
			continue // a version whose labels are not recorded
		}
		out[i].Scores = make(map[string]float32, classes)
		for c, name := range labels {
			out[i].Scores[name] = scores[i*classes+c]
		}
	}
	return out
}

// later is the answer of a method whose models are not there yet.
func later(method, what string) error {
	return statusOf(galley.Errorf(galley.Unimplemented, "Newsroom."+method, "this version of galley has no models that %s", what).
		WithRemedy("it classifies texts: Newsroom.Classify"))
}

// ExtractEntities answers Unimplemented, as do the methods below it.
func (*Newsroom) ExtractEntities(context.Context, *newsroompb.TextRequest) (*emptypb.Empty, error) {
	return nil, later("ExtractEntities", "find entities")
}

// Embed answers Unimplemented.
func (*Newsroom) Embed(context.Context, *newsroompb.TextRequest) (*emptypb.Empty, error) {
	return nil, later("Embed", "embed texts")
}

// Summarize answers Unimplemented.
func (*Newsroom) Summarize(context.Context, *newsroompb.TextRequest) (*emptypb.Empty, error) {
	return nil, later("Summarize", "summarize texts")
}

// ClassifyImage answers Unimplemented.
func (*Newsroom) ClassifyImage(context.Context, *newsroompb.MediaRequest) (*emptypb.Empty, error) {
	return nil, later("ClassifyImage", "classify images")
}

// ReadImage answers Unimplemented.
func (*Newsroom) ReadImage(context.Context, *newsroompb.MediaRequest) (*emptypb.Empty, error) {
	return nil, later("ReadImage", "read images")
}

// Transcribe answers Unimplemented.
func (*Newsroom) Transcribe(context.Context, *newsroompb.MediaRequest) (*emptypb.Empty, error) {
	return nil, later("Transcribe", "transcribe speech")
}

// StreamTranscribe answers Unimplemented.
func (*Newsroom) StreamTranscribe(grpc.BidiStreamingServer[newsroompb.MediaRequest, emptypb.Empty]) error {
	return later("StreamTranscribe", "transcribe speech")
}

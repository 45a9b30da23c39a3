package rpc

import (
	"context"
	"slices"
	"strconv"
	"time"

	inferencepb "galley/api/inference/v2"

	"galley"
	"galley/experiment"
	"galley/onnx/session"
	"galley/registry"
	"galley/serving"
	"galley/task"
)

// Inference answers the Open Inference Protocol.
type Inference struct {
	inferencepb.UnimplementedGRPCInferenceServiceServer
	Table   *serving.Table
	Store   registry.Store
	Name    string // of the server, in its metadata
	Version string
	Metrics *Metrics           // nil counts nothing
	Ready   func() bool        // whether more requests are welcome; nil for always
	Signer  *experiment.Signer // of prediction ids; with nil no outcome can be attached to them
}

// maxTensors bounds the inputs and outputs of a request.
const maxTensors = 256

// ServerLive says that the process answers.
func (s *Inference) ServerLive(context.Context, *inferencepb.ServerLiveRequest) (*inferencepb.ServerLiveResponse, error) {
	return &inferencepb.ServerLiveResponse{Live: true}, nil
}

// ServerReady says that models can be asked, and more requests are welcome.
func (s *Inference) ServerReady(context.Context, *inferencepb.ServerReadyRequest) (*inferencepb.ServerReadyResponse, error) {
	return &inferencepb.ServerReadyResponse{Ready: s.Ready == nil || s.Ready()}, nil
}

// ServerMetadata names the server and what it speaks beyond the protocol.
func (s *Inference) ServerMetadata(context.Context, *inferencepb.ServerMetadataRequest) (*inferencepb.ServerMetadataResponse, error) {
	return &inferencepb.ServerMetadataResponse{Name: s.Name, Version: s.Version, Extensions: extensions}, nil
}

// ModelReady reports whether a model can be asked; it opens it to know.
func (s *Inference) ModelReady(ctx context.Context, r *inferencepb.ModelReadyRequest) (*inferencepb.ModelReadyResponse, error) {
	lease, err := s.acquire(ctx, "name", r.GetName(), r.GetVersion())
	if err != nil {
		if code := galley.CodeOf(err); code == galley.NotFound || code == galley.InvalidArgument {
			return nil, statusOf(err)
		}
		return &inferencepb.ModelReadyResponse{Ready: false}, nil
	}
	lease.Release()
	return &inferencepb.ModelReadyResponse{Ready: true}, nil
}

// ModelMetadata describes a model's inputs and outputs.
func (s *Inference) ModelMetadata(ctx context.Context, r *inferencepb.ModelMetadataRequest) (*inferencepb.ModelMetadataResponse, error) {
	lease, err := s.acquire(ctx, "name", r.GetName(), r.GetVersion())
	if err != nil {
		return nil, statusOf(err)
	}
	defer lease.Release()
	versions, err := s.versions(ctx, r.GetName(), lease.Version.Number, r.GetVersion() != "")
	if err != nil {
		return nil, statusOf(err)
	}
	return &inferencepb.ModelMetadataResponse{
		Name: r.GetName(), Versions: versions, Platform: lease.Platform,
		Inputs:  fieldsOf(lease.Signature.Inputs),
		Outputs: fieldsOf(lease.Signature.Outputs),
	}, nil
}

// versions lists a model's numbers, or the one that was asked for.
func (s *Inference) versions(ctx context.Context, name string, number int, one bool) ([]string, error) {
	if one {
		return []string{strconv.Itoa(number)}, nil
	}
	m, err := s.Store.Model(ctx, name)
	if err != nil {
		return nil, err
	}
	var numbers []string
	for _, v := range m.Versions {
		numbers = append(numbers, strconv.Itoa(v.Number))
	}
	return numbers, nil
}

func fieldsOf(fields []task.Field) []*inferencepb.ModelMetadataResponse_TensorMetadata {
	var out []*inferencepb.ModelMetadataResponse_TensorMetadata
	for _, f := range fields {
		out = append(out, &inferencepb.ModelMetadataResponse_TensorMetadata{Name: f.Name, Datatype: f.Datatype, Shape: f.Shape})
	}
	return out
}

// ModelInfer answers with the version that the request goes to.
func (s *Inference) ModelInfer(ctx context.Context, r *inferencepb.ModelInferRequest) (*inferencepb.ModelInferResponse, error) {
	key, err := requestKey(r)
	if err != nil {
		s.Metrics.refused(err)
		return nil, statusOf(err)
	}
	lease, err := s.acquireFor(ctx, "model_name", r.GetModelName(), r.GetModelVersion(), key)
	if err != nil {
		s.Metrics.refused(err)
		return nil, statusOf(err)
	}
	defer lease.Release()
	inputs, err := requestTensors(lease, r)
	if err != nil {
		lease.Refuse(err)
		return nil, statusOf(err)
	}
	ctx, cancel, err := withTimeout(ctx, r)
	if err != nil {
		lease.Refuse(err)
		return nil, statusOf(err)
	}
	defer cancel()
	outputs, err := lease.Infer(ctx, inputs)
	if err != nil {
		return nil, statusOf(err)
	}
	response := responseOf(r, lease, outputs, s.predictionID(lease, outputs))
	for _, t := range outputs {
		t.Close()
	}
	return response, nil
}

// withTimeout applies the parameter timeout, in microseconds, which Triton's
// clients send beside the deadline of the call; 0 is none.
func withTimeout(ctx context.Context, r *inferencepb.ModelInferRequest) (context.Context, context.CancelFunc, error) {
	p, ok := r.GetParameters()["timeout"]
	if !ok {
		return ctx, func() {}, nil
	}
	const most = int64(24 * time.Hour / time.Microsecond)
	micros, whole := p.GetParameterChoice().(*inferencepb.InferParameter_Int64Param)
	if !whole || micros.Int64Param < 0 || micros.Int64Param > most {
		return nil, nil, galley.Errorf(galley.InvalidArgument, "timeout", "is not a number of microseconds").
			WithRemedy("send 0 for none, at most %d", most)
	}
	if micros.Int64Param == 0 {
		return ctx, func() {}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(micros.Int64Param)*time.Microsecond)
	return ctx, cancel, nil
}

// requestTensors checks a request, all that can be wrong with it before the model
// is asked, and returns its tensors.
func requestTensors(lease *serving.Lease, r *inferencepb.ModelInferRequest) (map[string]*session.Tensor, error) {
	if n := max(len(r.GetInputs()), len(r.GetOutputs())); n > maxTensors {
		return nil, galley.Errorf(galley.InvalidArgument, "inputs", "%d tensors in one request", n).
			WithRemedy("send at most %d", maxTensors)
	}
	for _, asked := range r.GetOutputs() {
		if !slices.ContainsFunc(lease.Signature.Outputs, func(f task.Field) bool { return f.Name == asked.GetName() }) {
			return nil, galley.Errorf(galley.InvalidArgument, printable(asked.GetName()), "is not an output of %s", lease.Version.Ref()).
				WithRemedy("the model's metadata list its outputs")
		}
	}
	return inputTensors(r)
}

// acquire finds the version that a request goes to, whose model is named in
// this field of it.
func (s *Inference) acquire(ctx context.Context, field, name, version string) (*serving.Lease, error) {
	if err := galley.CheckName(field, name); err != nil {
		return nil, err
	}
	return s.Table.Acquire(ctx, name, version)
}

// acquireFor is acquire for a request that is to be answered.
func (s *Inference) acquireFor(ctx context.Context, field, name, version, key string) (*serving.Lease, error) {
	if err := galley.CheckName(field, name); err != nil {
		return nil, err
	}
	return s.Table.AcquireFor(ctx, name, version, key)
}

// requestKey is what an experiment knows requests of one reader by: the
// parameter request_key, else the request's id.
func requestKey(r *inferencepb.ModelInferRequest) (string, error) {
	p, ok := r.GetParameters()["request_key"]
	if !ok {
		id := r.GetId()
		return id[:min(len(id), experiment.MaxKey)], nil
	}
	key, ok := p.GetParameterChoice().(*inferencepb.InferParameter_StringParam)
	if !ok {
		return "", galley.Errorf(galley.InvalidArgument, "request_key", "is not a string").WithRemedy("send the key as a string parameter")
	}
	return key.StringParam, nil
}

// responseOf writes the outputs that were asked for, all if none was named, in
// the signature's order.
func responseOf(r *inferencepb.ModelInferRequest, lease *serving.Lease, outputs map[string]*session.Tensor, id string) *inferencepb.ModelInferResponse {
	n := len(lease.Signature.Outputs)
	response := &inferencepb.ModelInferResponse{
		ModelName: r.GetModelName(), ModelVersion: strconv.Itoa(lease.Version.Number), Id: r.GetId(),
		Parameters: map[string]*inferencepb.InferParameter{
			"prediction_id": {ParameterChoice: &inferencepb.InferParameter_StringParam{StringParam: id}},
		},
		Outputs:           make([]*inferencepb.ModelInferResponse_InferOutputTensor, 0, n),
		RawOutputContents: make([][]byte, 0, n),
	}
	for _, v := range lease.Signature.Outputs {
		t, ok := outputs[v.Name]
		wanted := slices.ContainsFunc(r.GetOutputs(), func(o *inferencepb.ModelInferRequest_InferRequestedOutputTensor) bool {
			return o.GetName() == v.Name
		})
		if !ok || len(r.GetOutputs()) > 0 && !wanted {
			continue
		}
		response.Outputs = append(response.Outputs, &inferencepb.ModelInferResponse_InferOutputTensor{
			Name: v.Name, Datatype: v.Datatype, Shape: t.Shape,
		})
		response.RawOutputContents = append(response.RawOutputContents, rawBytes(t))
	}
	return response
}

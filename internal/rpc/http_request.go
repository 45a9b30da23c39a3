package rpc

import (
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf8"

	inferencepb "galley/api/inference/v2"

	"galley"
)

// inferRequest is an inference request as the protocol writes it in JSON.
// Members that the protocol does not name are passed over, as clients send
// extensions of other servers.
type inferRequest struct {
	ID         string               `json:"id"`
	Parameters map[string]parameter `json:"parameters"`
	Inputs     []struct {
		Name       string               `json:"name"`
		Datatype   string               `json:"datatype"`
		Shape      []int64              `json:"shape"`
		Parameters map[string]parameter `json:"parameters"`
		Data       json.RawMessage      `json:"data"` // flat, or nested as the shape says
	} `json:"inputs"`
	Outputs []struct {
		Name       string               `json:"name"`
		Parameters map[string]parameter `json:"parameters"`
	} `json:"outputs"`
}

// parseInferRequest reads a body, and the tensors behind it, into the request
// that it is over gRPC, with raw contents.
func parseInferRequest(body, tensors []byte) (*inferencepb.ModelInferRequest, error) {
	// encoding/json would replace bad bytes silently.
	if !utf8.Valid(body) {
		return nil, galley.Errorf(galley.InvalidArgument, "body", "is not valid UTF-8").WithRemedy("convert it to UTF-8")
	}
	var in inferRequest
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, jsonError(err)
	}
	if n := max(len(in.Inputs), len(in.Outputs)); n > maxTensors {
		return nil, galley.Errorf(galley.InvalidArgument, "inputs", "%d tensors in one request", n).
			WithRemedy("send at most %d", maxTensors)
	}
	out := &inferencepb.ModelInferRequest{Id: in.ID, Parameters: parameters(in.Parameters)}
	for _, t := range in.Inputs {
		var raw []byte
		var err error
		if size, ok := t.Parameters[binarySize]; ok {
			if t.Data != nil {
				return nil, galley.Errorf(galley.InvalidArgument, printable(t.Name), "has both data and %s", binarySize).WithRemedy("send one of them")
			}
			raw, tensors, err = cutTensor(t.Name, size, tensors)
			delete(t.Parameters, binarySize) // of the transport, not of the request
		} else {
			raw, err = parseElements(t.Name, t.Datatype, t.Shape, t.Data)
		}
		if err != nil {
			return nil, err
		}
		out.Inputs = append(out.Inputs, &inferencepb.ModelInferRequest_InferInputTensor{
			Name: t.Name, Datatype: t.Datatype, Shape: t.Shape, Parameters: parameters(t.Parameters),
		})
		out.RawInputContents = append(out.RawInputContents, raw)
	}
	if len(tensors) > 0 {
		return nil, galley.Errorf(galley.InvalidArgument, "body", "has %d bytes behind the last tensor", len(tensors)).
			WithRemedy("each input's %s is the number of its bytes", binarySize)
	}
	for _, o := range in.Outputs {
		out.Outputs = append(out.Outputs, &inferencepb.ModelInferRequest_InferRequestedOutputTensor{
			Name: o.Name, Parameters: parameters(o.Parameters),
		})
	}
	return out, nil
}

// jsonError words what encoding/json refuses without Go's names.
func jsonError(err error) error {
	var own *galley.Error
	if errors.As(err, &own) {
		return own
	}
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		return galley.Errorf(galley.InvalidArgument, "body", "is not JSON, at byte %d: %w", syntax.Offset, err)
	}
	if typed := (*json.UnmarshalTypeError)(nil); errors.As(err, &typed) {
		subject := typed.Field
		if subject == "" {
			subject = "body"
		}
		return galley.Errorf(galley.InvalidArgument, subject, "cannot be a JSON %s", printable(typed.Value))
	}
	return galley.Errorf(galley.InvalidArgument, "body", "is not JSON: %w", err)
}

// A parameter is a boolean, a number or a string of a request.
type parameter struct{ value *inferencepb.InferParameter }

// UnmarshalJSON implements json.Unmarshaler.
func (p *parameter) UnmarshalJSON(data []byte) error {
	switch data[0] {
	case 't', 'f':
		p.value = &inferencepb.InferParameter{ParameterChoice: &inferencepb.InferParameter_BoolParam{BoolParam: data[0] == 't'}}
		return nil
	case '"':
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
		p.value = &inferencepb.InferParameter{ParameterChoice: &inferencepb.InferParameter_StringParam{StringParam: s}}
		return nil
	}
	if n, err := strconv.ParseInt(string(data), 10, 64); err == nil {
		p.value = &inferencepb.InferParameter{ParameterChoice: &inferencepb.InferParameter_Int64Param{Int64Param: n}}
		return nil
	}
	if n, err := strconv.ParseUint(string(data), 10, 64); err == nil {
		p.value = &inferencepb.InferParameter{ParameterChoice: &inferencepb.InferParameter_Uint64Param{Uint64Param: n}}
		return nil
	}
	if x, err := strconv.ParseFloat(string(data), 64); err == nil {
		p.value = &inferencepb.InferParameter{ParameterChoice: &inferencepb.InferParameter_DoubleParam{DoubleParam: x}}
		return nil
	}
	return galley.Errorf(galley.InvalidArgument, "parameters", "%s is neither a boolean nor a number nor a string", printable(string(data)))
}

func parameters(in map[string]parameter) map[string]*inferencepb.InferParameter {
	if len(in) == 0 {
		return nil
	}
	out := make(map[string]*inferencepb.InferParameter, len(in))
	for name, p := range in {
		out[name] = p.value
	}
	return out
}

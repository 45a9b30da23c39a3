package rpc

import (
	"encoding/json"
	"net/http"

	inferencepb "galley/api/inference/v2"

	"galley"
)

// binaryHeader announces a body with raw tensors behind its JSON: Triton's
// binary tensor extension.
const binaryHeader = "Inference-Header-Content-Length"

// inferenceRoutes adds the protocol's routes. Each asks the method that
// answers it over gRPC.
func inferenceRoutes(api *httpAPI, s *Inference) {
	api.handle("GET", "/v2", func(r *http.Request) (any, error) {
		m, err := s.ServerMetadata(r.Context(), &inferencepb.ServerMetadataRequest{})
		if err != nil {
			return nil, err
		}
		// None of the extensions is there over HTTP.
		return serverJSON{m.GetName(), m.GetVersion(), []string{}}, nil
	})
	api.handle("GET", "/v2/health/live", func(r *http.Request) (any, error) {
		m, err := s.ServerLive(r.Context(), &inferencepb.ServerLiveRequest{})
		return readiness(map[string]any{"live": m.GetLive()}, m.GetLive(), err)
	})
	api.handle("GET", "/v2/health/ready", func(r *http.Request) (any, error) {
		m, err := s.ServerReady(r.Context(), &inferencepb.ServerReadyRequest{})
		return readiness(map[string]any{"ready": m.GetReady()}, m.GetReady(), err)
	})
	for _, model := range []string{"/v2/models/{name}", "/v2/models/{name}/versions/{version}"} {
		api.handle("GET", model, func(r *http.Request) (any, error) {
			m, err := s.ModelMetadata(r.Context(), &inferencepb.ModelMetadataRequest{Name: r.PathValue("name"), Version: r.PathValue("version")})
			if err != nil {
				return nil, err
			}
			return modelJSON{m.GetName(), m.GetVersions(), m.GetPlatform(), fieldsJSON(m.GetInputs()), fieldsJSON(m.GetOutputs())}, nil
		})
		api.handle("GET", model+"/ready", func(r *http.Request) (any, error) {
			name := r.PathValue("name")
			m, err := s.ModelReady(r.Context(), &inferencepb.ModelReadyRequest{Name: name, Version: r.PathValue("version")})
			return readiness(map[string]any{"name": name, "ready": m.GetReady()}, m.GetReady(), err)
		})
		api.handle("POST", model+"/infer", func(r *http.Request) (any, error) { return infer(s, r) })
	}
}

// readiness is the answer yes; no is a status of 400, as the protocol says.
func readiness(yes map[string]any, ready bool, err error) (any, error) {
	if err == nil && !ready {
		err = &refusal{http.StatusBadRequest, "not ready"}
	}
	return yes, err
}

func infer(s *Inference, r *http.Request) (any, error) {
	if r.Header.Get(binaryHeader) != "" {
		return nil, galley.Errorf(galley.InvalidArgument, binaryHeader, "raw tensors are not taken over HTTP").
			WithRemedy("send the tensors' data as JSON (tritonclient: binary_data=False), or ask over gRPC")
	}
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	request, err := parseInferRequest(body)
	if err != nil {
		return nil, err
	}
	request.ModelName, request.ModelVersion = r.PathValue("name"), r.PathValue("version")
	response, err := s.ModelInfer(r.Context(), request)
	if err != nil {
		return nil, err
	}
	return inferResponseJSON(response)
}

type serverJSON struct {
	Name       string   `json:"name"`
	Version    string   `json:"version"`
	Extensions []string `json:"extensions"`
}

type modelJSON struct {
	Name     string      `json:"name"`
	Versions []string    `json:"versions"`
	Platform string      `json:"platform"`
	Inputs   []fieldJSON `json:"inputs"`
	Outputs  []fieldJSON `json:"outputs"`
}

type fieldJSON struct {
	Name     string  `json:"name"`
	Datatype string  `json:"datatype"`
	Shape    []int64 `json:"shape"`
}

func fieldsJSON(fields []*inferencepb.ModelMetadataResponse_TensorMetadata) []fieldJSON {
	out := make([]fieldJSON, len(fields))
	for i, f := range fields {
		out[i] = fieldJSON{f.GetName(), f.GetDatatype(), shapeJSON(f.GetShape())}
	}
	return out
}

// shapeJSON writes a scalar's shape as [] rather than null.
func shapeJSON(shape []int64) []int64 { return append([]int64{}, shape...) }

type inferResponse struct {
	ModelName    string         `json:"model_name"`
	ModelVersion string         `json:"model_version"`
	ID           string         `json:"id,omitempty"`
	Parameters   map[string]any `json:"parameters,omitempty"`
	Outputs      []outputJSON   `json:"outputs"`
}

type outputJSON struct {
	Name     string          `json:"name"`
	Datatype string          `json:"datatype"`
	Shape    []int64         `json:"shape"`
	Data     json.RawMessage `json:"data"` // flat
}

func inferResponseJSON(r *inferencepb.ModelInferResponse) (*inferResponse, error) {
	out := &inferResponse{
		ModelName: r.GetModelName(), ModelVersion: r.GetModelVersion(), ID: r.GetId(),
		Parameters: map[string]any{}, Outputs: []outputJSON{},
	}
	for name, p := range r.GetParameters() {
		out.Parameters[name] = parameterJSON(p)
	}
	for i, o := range r.GetOutputs() {
		data, err := elementsJSON(o.GetName(), o.GetDatatype(), r.GetRawOutputContents()[i])
		if err != nil {
			return nil, err
		}
		out.Outputs = append(out.Outputs, outputJSON{o.GetName(), o.GetDatatype(), shapeJSON(o.GetShape()), data})
	}
	return out, nil
}

func parameterJSON(p *inferencepb.InferParameter) any {
	switch p := p.GetParameterChoice().(type) {
	case *inferencepb.InferParameter_BoolParam:
		return p.BoolParam
	case *inferencepb.InferParameter_Int64Param:
		return p.Int64Param
	case *inferencepb.InferParameter_Uint64Param:
		return p.Uint64Param
	case *inferencepb.InferParameter_DoubleParam:
		return p.DoubleParam
	case *inferencepb.InferParameter_StringParam:
		return p.StringParam
	default:
		return nil
	}
}

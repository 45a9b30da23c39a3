package rpc

import (
	"encoding/json"
	"net/http"

	inferencepb "galley/api/inference/v2"
)

// inferenceRoutes adds the protocol's routes. Each asks the method that
// answers it over gRPC.
func inferenceRoutes(api *httpAPI, server *Server) {
	s, g := server.inference, server.gateway
	api.handle("GET", "/v2", inferencepb.GRPCInferenceService_ServerMetadata_FullMethodName, func(r *http.Request) (any, error) {
		m, err := through(g, r, inferencepb.GRPCInferenceService_ServerMetadata_FullMethodName, s, &inferencepb.ServerMetadataRequest{}, s.ServerMetadata)
		if err != nil {
			return nil, err
		}
		return serverJSON{m.GetName(), m.GetVersion(), append([]string{}, m.GetExtensions()...)}, nil
	})
	api.handle("GET", "/v2/health/live", inferencepb.GRPCInferenceService_ServerLive_FullMethodName, func(r *http.Request) (any, error) {
		m, err := through(g, r, inferencepb.GRPCInferenceService_ServerLive_FullMethodName, s, &inferencepb.ServerLiveRequest{}, s.ServerLive)
		return readiness(map[string]any{"live": m.GetLive()}, m.GetLive(), err)
	})
	api.handle("GET", "/v2/health/ready", inferencepb.GRPCInferenceService_ServerReady_FullMethodName, func(r *http.Request) (any, error) {
		m, err := through(g, r, inferencepb.GRPCInferenceService_ServerReady_FullMethodName, s, &inferencepb.ServerReadyRequest{}, s.ServerReady)
		return readiness(map[string]any{"ready": m.GetReady()}, m.GetReady(), err)
	})
	for _, model := range []string{"/v2/models/{name}", "/v2/models/{name}/versions/{version}"} {
		api.handle("GET", model, inferencepb.GRPCInferenceService_ModelMetadata_FullMethodName, func(r *http.Request) (any, error) {
			m, err := modelMetadata(g, s, r)
			if err != nil {
				return nil, err
			}
			return modelJSON{m.GetName(), m.GetVersions(), m.GetPlatform(), fieldsJSON(m.GetInputs()), fieldsJSON(m.GetOutputs())}, nil
		})
		api.handle("GET", model+"/ready", inferencepb.GRPCInferenceService_ModelReady_FullMethodName, func(r *http.Request) (any, error) {
			request := &inferencepb.ModelReadyRequest{Name: r.PathValue("name"), Version: r.PathValue("version")}
			m, err := through(g, r, inferencepb.GRPCInferenceService_ModelReady_FullMethodName, s, request, s.ModelReady)
			return readiness(map[string]any{"name": request.GetName(), "ready": m.GetReady()}, m.GetReady(), err)
		})
		api.handle("POST", model+"/infer", inferencepb.GRPCInferenceService_ModelInfer_FullMethodName, func(r *http.Request) (any, error) { return infer(g, s, r) })
	}
}

// readiness is the answer yes; no is a status of 400, as the protocol says.
func readiness(yes map[string]any, ready bool, err error) (any, error) {
	if err == nil && !ready {
		err = &refusal{http.StatusBadRequest, "not ready"}
	}
	return yes, err
}

// modelMetadata asks for those of the model that the path names.
func modelMetadata(g *gateway, s inferencepb.GRPCInferenceServiceServer, r *http.Request) (*inferencepb.ModelMetadataResponse, error) {
	request := &inferencepb.ModelMetadataRequest{Name: r.PathValue("name"), Version: r.PathValue("version")}
	return through(g, r, inferencepb.GRPCInferenceService_ModelMetadata_FullMethodName, s, request, s.ModelMetadata)
}

func infer(g *gateway, s inferencepb.GRPCInferenceServiceServer, r *http.Request) (any, error) {
	body, err := readBody(r, maxMessage)
	if err != nil {
		return nil, err
	}
	head, tensors, err := cutBody(r.Header, body)
	if err != nil {
		return nil, err
	}
	var request *inferencepb.ModelInferRequest
	if head == nil {
		metadata, err := modelMetadata(g, s, r)
		if err != nil {
			return nil, err
		}
		request, err = rawRequest(metadata, tensors)
		if err != nil {
			return nil, err
		}
	} else if request, err = parseInferRequest(head, tensors); err != nil {
		return nil, err
	}
	request.ModelName, request.ModelVersion = r.PathValue("name"), r.PathValue("version")
	response, err := through(g, r, inferencepb.GRPCInferenceService_ModelInfer_FullMethodName, s, request, s.ModelInfer)
	if err != nil {
		return nil, err
	}
	return inferAnswer(request, response)
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
	Name       string          `json:"name"`
	Datatype   string          `json:"datatype"`
	Shape      []int64         `json:"shape"`
	Parameters map[string]any  `json:"parameters,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"` // flat; absent if its bytes follow
}

// inferAnswer writes a response in JSON, with those outputs behind it that the
// request wants as bytes.
func inferAnswer(request *inferencepb.ModelInferRequest, r *inferencepb.ModelInferResponse) (any, error) {
	out := &inferResponse{
		ModelName: r.GetModelName(), ModelVersion: r.GetModelVersion(), ID: r.GetId(),
		Parameters: map[string]any{}, Outputs: []outputJSON{},
	}
	for name, p := range r.GetParameters() {
		out.Parameters[name] = parameterJSON(p)
	}
	var tensors [][]byte
	for i, o := range r.GetOutputs() {
		answer := outputJSON{Name: o.GetName(), Datatype: o.GetDatatype(), Shape: shapeJSON(o.GetShape())}
		raw := r.GetRawOutputContents()[i]
		if wantsBinary(request, o.GetName()) {
			answer.Parameters = map[string]any{binarySize: len(raw)}
			tensors = append(tensors, raw)
		} else {
			var err error
			if answer.Data, err = elementsJSON(o.GetName(), o.GetDatatype(), raw); err != nil {
				return nil, err
			}
		}
		out.Outputs = append(out.Outputs, answer)
	}
	if tensors == nil {
		return out, nil
	}
	return &binaryAnswer{out, tensors}, nil
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

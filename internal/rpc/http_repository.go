package rpc

import (
	"encoding/json"
	"net/http"

	"google.golang.org/protobuf/encoding/protojson"

	inferencepb "galley/api/inference/v2"
)

// repositoryRoutes adds the routes of Triton's extensions.
func repositoryRoutes(api *httpAPI, server *Server) {
	s, g := server.inference, server.gateway
	for _, model := range []string{"/v2/models/{name}", "/v2/models/{name}/versions/{version}"} {
		api.handle("GET", model+"/config", inferencepb.GRPCInferenceService_ModelConfig_FullMethodName, func(r *http.Request) (any, error) {
			request := &inferencepb.ModelConfigRequest{Name: r.PathValue("name"), Version: r.PathValue("version")}
			m, err := through(g, r, inferencepb.GRPCInferenceService_ModelConfig_FullMethodName, s, request, s.ModelConfig)
			if err != nil {
				return nil, err
			}
			return configJSON(m.GetConfig())
		})
		api.handle("GET", model+"/stats", inferencepb.GRPCInferenceService_ModelStatistics_FullMethodName, func(r *http.Request) (any, error) {
			return statistics(g, s, r, r.PathValue("name"), r.PathValue("version"))
		})
	}
	api.serve("GET", "/v2/models/stats", inferencepb.GRPCInferenceService_ModelStatistics_FullMethodName, func(r *http.Request) (any, error) { return statistics(g, s, r, "", "") })
	api.handle("POST", "/v2/repository/index", inferencepb.GRPCInferenceService_RepositoryIndex_FullMethodName, func(r *http.Request) (any, error) {
		body, err := readBody(r, maxControlBody)
		if err != nil {
			return nil, err
		}
		request := &inferencepb.RepositoryIndexRequest{}
		if err := parseJSON(body, request); err != nil {
			return nil, err
		}
		m, err := through(g, r, inferencepb.GRPCInferenceService_RepositoryIndex_FullMethodName, s, request, s.RepositoryIndex)
		if err != nil {
			return nil, err
		}
		index := make([]indexJSON, len(m.GetModels()))
		for i, v := range m.GetModels() {
			index[i] = indexJSON{v.GetName(), v.GetVersion(), v.GetState(), v.GetReason()}
		}
		return index, nil
	})
	for _, c := range []struct{ path, method, what, instead string }{
		{"POST /v2/repository/models/{name}/load", inferencepb.GRPCInferenceService_RepositoryModelLoad_FullMethodName, "loading", insteadOfLoading},
		{"POST /v2/repository/models/{name}/unload", inferencepb.GRPCInferenceService_RepositoryModelUnload_FullMethodName, "unloading", insteadOfLoading},
		{"POST /v2/models/{name}/generate", inferencepb.GRPCInferenceService_ModelStreamInfer_FullMethodName, "generating", insteadOfStream},
		{"POST /v2/models/{name}/generate_stream", inferencepb.GRPCInferenceService_ModelStreamInfer_FullMethodName, "generating", insteadOfStream},
		{"/v2/systemsharedmemory/", inferencepb.GRPCInferenceService_SystemSharedMemoryStatus_FullMethodName, "shared memory", insteadOfMemory},
		{"/v2/cudasharedmemory/", inferencepb.GRPCInferenceService_CudaSharedMemoryStatus_FullMethodName, "shared memory", insteadOfMemory},
		{"/v2/trace/setting", inferencepb.GRPCInferenceService_TraceSetting_FullMethodName, "trace settings", insteadOfTrace},
		{"/v2/models/{name}/trace/setting", inferencepb.GRPCInferenceService_TraceSetting_FullMethodName, "trace settings", insteadOfTrace},
		{"/v2/logging", inferencepb.GRPCInferenceService_LogSettings_FullMethodName, "log settings", insteadOfLogging},
	} {
		api.mux.HandleMethod(c.path, c.method, func(w http.ResponseWriter, _ *http.Request) {
			api.fail(w, statusOf(notThere(c.what, c.instead)))
		})
	}
}

type indexJSON struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	State   string `json:"state"`
	Reason  string `json:"reason"`
}

// configJSON writes a configuration by the names of its schema. Its whole
// numbers of 64 bits are all sizes, which Triton writes as numbers.
func configJSON(c *inferencepb.ModelConfig) (any, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(c)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	inputs, outputs := make([]map[string]any, 0, len(c.GetInput())), make([]map[string]any, 0, len(c.GetOutput()))
	for _, f := range c.GetInput() {
		inputs = append(inputs, map[string]any{"name": f.GetName(), "data_type": f.GetDataType().String(), "dims": shapeJSON(f.GetDims())})
	}
	for _, f := range c.GetOutput() {
		outputs = append(outputs, map[string]any{"name": f.GetName(), "data_type": f.GetDataType().String(), "dims": shapeJSON(f.GetDims())})
	}
	fields["input"], fields["output"] = inputs, outputs
	return fields, nil
}

func statistics(g *gateway, s inferencepb.GRPCInferenceServiceServer, r *http.Request, name, version string) (any, error) {
	request := &inferencepb.ModelStatisticsRequest{Name: name, Version: version}
	m, err := through(g, r, inferencepb.GRPCInferenceService_ModelStatistics_FullMethodName, s, request, s.ModelStatistics)
	if err != nil {
		return nil, err
	}
	all := make([]statisticsJSON, len(m.GetModelStats()))
	for i, one := range m.GetModelStats() {
		all[i] = statisticsJSON{
			one.GetName(), one.GetVersion(), one.GetLastInference(), one.GetInferenceCount(), one.GetExecutionCount(),
			inferJSON(one.GetInferenceStats()), []batchJSON{},
		}
		for _, b := range one.GetBatchStats() {
			all[i].Batches = append(all[i].Batches, batchJSON{
				b.GetBatchSize(), spanJSON(b.GetComputeInput()), spanJSON(b.GetComputeInfer()), spanJSON(b.GetComputeOutput()),
			})
		}
	}
	return map[string]any{"model_stats": all}, nil
}

type statisticsJSON struct {
	Name          string              `json:"name"`
	Version       string              `json:"version"`
	LastInference uint64              `json:"last_inference"`
	Inferences    uint64              `json:"inference_count"`
	Executions    uint64              `json:"execution_count"`
	Infer         map[string]spanOnly `json:"inference_stats"`
	Batches       []batchJSON         `json:"batch_stats"`
}

type batchJSON struct {
	Size          uint64   `json:"batch_size"`
	ComputeInput  spanOnly `json:"compute_input"`
	ComputeInfer  spanOnly `json:"compute_infer"`
	ComputeOutput spanOnly `json:"compute_output"`
}

// A spanOnly is a count and its time.
type spanOnly struct {
	Count uint64 `json:"count"`
	NS    uint64 `json:"ns"`
}

func spanJSON(d *inferencepb.StatisticDuration) spanOnly { return spanOnly{d.GetCount(), d.GetNs()} }

func inferJSON(s *inferencepb.InferStatistics) map[string]spanOnly {
	return map[string]spanOnly{
		"success": spanJSON(s.GetSuccess()), "fail": spanJSON(s.GetFail()), "queue": spanJSON(s.GetQueue()),
		"compute_input": spanJSON(s.GetComputeInput()), "compute_infer": spanJSON(s.GetComputeInfer()), "compute_output": spanJSON(s.GetComputeOutput()),
		"cache_hit": spanJSON(s.GetCacheHit()), "cache_miss": spanJSON(s.GetCacheMiss()),
	}
}

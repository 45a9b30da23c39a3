package rpc

import (
	"context"
	"strconv"

	inferencepb "galley/api/inference/v2"

	"galley"
	"galley/onnx"
	"galley/registry"
	"galley/serving"
	"galley/task"
)

// extensions are those of Triton's that galley speaks, by their names in the
// server's metadata: what is in the list is there, over gRPC and HTTP. The
// index is the part of Triton's model repository that does not load or unload.
var extensions = []string{"binary_tensor_data", "model_configuration", "model_repository(index)", "statistics"}

// ModelConfig describes a model as Triton's configuration files do.
func (s *Inference) ModelConfig(ctx context.Context, r *inferencepb.ModelConfigRequest) (*inferencepb.ModelConfigResponse, error) {
	lease, err := s.acquire(ctx, "name", r.GetName(), r.GetVersion())
	if err != nil {
		return nil, statusOf(err)
	}
	defer lease.Release()
	config := &inferencepb.ModelConfig{
		Name: r.GetName(), Platform: lease.Platform, Backend: "onnxruntime", DefaultModelFilename: task.ModelFile,
		VersionPolicy: &inferencepb.ModelVersionPolicy{PolicyChoice: &inferencepb.ModelVersionPolicy_All_{All: &inferencepb.ModelVersionPolicy_All{}}},
		InstanceGroup: []*inferencepb.ModelInstanceGroup{{Name: r.GetName(), Count: 1, Kind: inferencepb.ModelInstanceGroup_KIND_CPU}},
		Parameters:    map[string]*inferencepb.ModelParameter{},
	}
	for name, value := range map[string]string{"task": lease.Version.Task, "version": lease.Version.Ref(), "digest": string(lease.Version.Digest)} {
		if value != "" {
			config.Parameters[name] = &inferencepb.ModelParameter{StringValue: value}
		}
	}
	for _, f := range lease.Signature.Inputs {
		config.Input = append(config.Input, &inferencepb.ModelInput{Name: f.Name, DataType: configType(f.Datatype), Dims: f.Shape})
	}
	for _, f := range lease.Signature.Outputs {
		config.Output = append(config.Output, &inferencepb.ModelOutput{Name: f.Name, DataType: configType(f.Datatype), Dims: f.Shape})
	}
	return &inferencepb.ModelConfigResponse{Config: config}, nil
}

// configType is a datatype's name in configurations.
func configType(datatype string) inferencepb.DataType {
	if t, ok := task.ParseDatatype(datatype); ok && t == onnx.String {
		return inferencepb.DataType_TYPE_STRING
	}
	return inferencepb.DataType(inferencepb.DataType_value["TYPE_"+datatype])
}

// ModelStatistics says what versions have done since the server began. A
// version that was asked for by name and has done nothing has zeros.
func (s *Inference) ModelStatistics(ctx context.Context, r *inferencepb.ModelStatisticsRequest) (*inferencepb.ModelStatisticsResponse, error) {
	all, err := s.statistics(ctx, r.GetName(), r.GetVersion())
	if err != nil {
		return nil, statusOf(err)
	}
	out := &inferencepb.ModelStatisticsResponse{}
	for _, one := range all {
		out.ModelStats = append(out.ModelStats, statisticsOf(one))
	}
	return out, nil
}

func (s *Inference) statistics(ctx context.Context, name, version string) ([]serving.Statistics, error) {
	if name == "" {
		if version != "" {
			return nil, galley.Errorf(galley.InvalidArgument, "version", "is given without a name").WithRemedy("name the model")
		}
		return s.Table.Statistics("", 0), nil
	}
	if err := galley.CheckName("name", name); err != nil {
		return nil, err
	}
	if version == "" {
		if _, err := s.Store.Outline(ctx, name, 0); err != nil {
			return nil, err
		}
		return s.Table.Statistics(name, 0), nil
	}
	v, err := registry.ResolveTraffic(ctx, s.Store, name, version)
	if err != nil {
		return nil, err
	}
	if found := s.Table.Statistics(name, v.Number); len(found) > 0 {
		return found, nil
	}
	return []serving.Statistics{{Model: name, Version: v.Number}}, nil
}

func statisticsOf(s serving.Statistics) *inferencepb.ModelStatistics {
	out := &inferencepb.ModelStatistics{
		Name: s.Model, Version: strconv.Itoa(s.Version), InferenceCount: s.Inferences, ExecutionCount: s.Executions,
		InferenceStats: &inferencepb.InferStatistics{
			Success: spanOf(s.Success), Fail: spanOf(s.Fail), Queue: spanOf(s.Queue),
			ComputeInput: spanOf(s.ComputeInput), ComputeInfer: spanOf(s.ComputeInfer), ComputeOutput: spanOf(s.ComputeOutput),
			CacheHit: &inferencepb.StatisticDuration{}, CacheMiss: &inferencepb.StatisticDuration{},
		},
	}
	if !s.LastInference.IsZero() {
		out.LastInference = uint64(s.LastInference.UnixMilli())
	}
	for _, b := range s.Batches {
		out.BatchStats = append(out.BatchStats, &inferencepb.InferBatchStatistics{
			BatchSize: uint64(b.Size), ComputeInput: spanOf(b.ComputeInput), ComputeInfer: spanOf(b.ComputeInfer), ComputeOutput: spanOf(b.ComputeOutput),
		})
	}
	return out
}

func spanOf(s serving.Span) *inferencepb.StatisticDuration {
	return &inferencepb.StatisticDuration{Count: s.Count, Ns: uint64(s.Total.Nanoseconds())}
}

// Bounds of the index.
const (
	indexPage = 500     // models of one look-up
	maxIndex  = 100_000 // versions of an answer
)

// RepositoryIndex lists the versions of all models. All are ready: a version
// that is not open is opened by the first request to it.
func (s *Inference) RepositoryIndex(ctx context.Context, r *inferencepb.RepositoryIndexRequest) (*inferencepb.RepositoryIndexResponse, error) {
	if name := r.GetRepositoryName(); name != "" {
		return nil, statusOf(galley.Errorf(galley.NotFound, printable(name), "is no repository").WithRemedy("name none: there is one"))
	}
	out := &inferencepb.RepositoryIndexResponse{}
	for after := ""; ; {
		models, err := s.Store.Models(ctx, after, indexPage)
		if err != nil {
			return nil, statusOf(err)
		}
		for _, m := range models {
			after = m.Name
			for _, v := range m.Versions {
				if len(out.Models) == maxIndex {
					return nil, statusOf(galley.Errorf(galley.ResourceExhausted, "index", "there are more than %d versions", maxIndex).
						WithRemedy("list the models over the control API"))
				}
				out.Models = append(out.Models, &inferencepb.RepositoryIndexResponse_ModelIndex{
					Name: m.Name, Version: strconv.Itoa(v.Number), State: "READY",
				})
			}
		}
		if len(models) < indexPage {
			return out, nil
		}
	}
}

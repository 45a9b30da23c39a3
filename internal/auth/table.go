package auth

import (
	"maps"
	"slices"
)

// methods is the permission that each gRPC method asks for, by its full name.
// A method without a line here is denied, and a test of internal/rpc fails.
var methods = map[string]Permission{
	"/grpc.health.v1.Health/Check":                                   Open,
	"/grpc.health.v1.Health/List":                                    Open,
	"/grpc.health.v1.Health/Watch":                                   Open,
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      Observe,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Observe,

	"/inference.GRPCInferenceService/ServerLive":                   Open,
	"/inference.GRPCInferenceService/ServerReady":                  Open,
	"/inference.GRPCInferenceService/ModelReady":                   Describe,
	"/inference.GRPCInferenceService/ServerMetadata":               Describe,
	"/inference.GRPCInferenceService/ModelMetadata":                Describe,
	"/inference.GRPCInferenceService/ModelConfig":                  Describe,
	"/inference.GRPCInferenceService/ModelStatistics":              Observe,
	"/inference.GRPCInferenceService/RepositoryIndex":              Describe,
	"/inference.GRPCInferenceService/ModelInfer":                   Infer,
	"/inference.GRPCInferenceService/ModelStreamInfer":             Infer,
	"/inference.GRPCInferenceService/RepositoryModelLoad":          Operate,
	"/inference.GRPCInferenceService/RepositoryModelUnload":        Operate,
	"/inference.GRPCInferenceService/SystemSharedMemoryStatus":     Operate,
	"/inference.GRPCInferenceService/SystemSharedMemoryRegister":   Operate,
	"/inference.GRPCInferenceService/SystemSharedMemoryUnregister": Operate,
	"/inference.GRPCInferenceService/CudaSharedMemoryStatus":       Operate,
	"/inference.GRPCInferenceService/CudaSharedMemoryRegister":     Operate,
	"/inference.GRPCInferenceService/CudaSharedMemoryUnregister":   Operate,
	"/inference.GRPCInferenceService/TraceSetting":                 Operate,
	"/inference.GRPCInferenceService/LogSettings":                  Operate,

	"/galley.newsroom.v1.Newsroom/Classify":         Infer,
	"/galley.newsroom.v1.Newsroom/Feedback":         Infer,
	"/galley.newsroom.v1.Newsroom/ExtractEntities":  Infer,
	"/galley.newsroom.v1.Newsroom/Embed":            Infer,
	"/galley.newsroom.v1.Newsroom/Summarize":        Infer,
	"/galley.newsroom.v1.Newsroom/ClassifyImage":    Infer,
	"/galley.newsroom.v1.Newsroom/ReadImage":        Infer,
	"/galley.newsroom.v1.Newsroom/Transcribe":       Infer,
	"/galley.newsroom.v1.Newsroom/StreamTranscribe": Infer,

	"/galley.control.v1.Access/CreateToken": Administer,
	"/galley.control.v1.Access/ListTokens":  Administer,
	"/galley.control.v1.Access/RevokeToken": Administer,
	"/galley.control.v1.Access/RotateToken": Administer,

	"/galley.control.v1.Audit/GetHead":     Audit,
	"/galley.control.v1.Audit/ListEntries": Audit,

	"/galley.control.v1.Batch/Predict": Infer,

	"/galley.control.v1.Experiments/StartExperiment":  Promote,
	"/galley.control.v1.Experiments/ListExperiments":  Observe,
	"/galley.control.v1.Experiments/GetExperiment":    Observe,
	"/galley.control.v1.Experiments/SplitExperiment":  Promote,
	"/galley.control.v1.Experiments/StopExperiment":   Promote,
	"/galley.control.v1.Experiments/DecideExperiment": Promote, // by force: Force

	"/galley.control.v1.Federations/EnrolPartner":     Operate,
	"/galley.control.v1.Federations/ListPartners":     Observe,
	"/galley.control.v1.Federations/RevokePartner":    Operate,
	"/galley.control.v1.Federations/ReinstatePartner": Operate,
	"/galley.control.v1.Federations/GetFederation":    Observe,
	"/galley.control.v1.Federations/ListRounds":       Observe,
	"/galley.control.v1.Federations/GetRound":         Observe,
	"/galley.control.v1.Federations/GetAgreement":     Observe,

	"/galley.control.v1.Maintenance/Backup": Administer,

	"/galley.control.v1.Control/AddData":       Build,
	"/galley.control.v1.Control/GetData":       Observe,
	"/galley.control.v1.Control/ListData":      Observe,
	"/galley.control.v1.Control/UploadModel":   Build,
	"/galley.control.v1.Control/SubmitJob":     Build,
	"/galley.control.v1.Control/GetJob":        Observe,
	"/galley.control.v1.Control/ListJobs":      Observe,
	"/galley.control.v1.Control/WatchJob":      Observe,
	"/galley.control.v1.Control/JobLogs":       Observe,
	"/galley.control.v1.Control/CancelJob":     Build,
	"/galley.control.v1.Control/ResumeJob":     Build,
	"/galley.control.v1.Control/ExplainJob":    Observe,
	"/galley.control.v1.Control/ListModels":    Observe,
	"/galley.control.v1.Control/GetVersion":    Observe,
	"/galley.control.v1.Control/Lineage":       Observe,
	"/galley.control.v1.Control/ImportModel":   Build,
	"/galley.control.v1.Control/Promote":       Promote,
	"/galley.control.v1.Control/Rollback":      Promote,
	"/galley.control.v1.Control/AliasHistory":  Observe,
	"/galley.control.v1.Control/DiffVersions":  Observe,
	"/galley.control.v1.Control/GetGate":       Observe,
	"/galley.control.v1.Control/SetGate":       Force,
	"/galley.control.v1.Control/ExportVersion": Observe,
	"/galley.control.v1.Control/DeleteVersion": Operate,
	"/galley.control.v1.Control/Evaluate":      Build,
}

// routes is the permission that each HTTP route asks for that stands for no
// gRPC method, by its pattern in the mux. All others ask for their method's. A
// route without either is denied, and a test of internal/rpc fails.
var routes = map[string]Permission{
	"GET /{$}":     Describe,
	"GET /metrics": Observe,
}

// OfMethod is the permission that a gRPC method asks for, by its full name
// with the leading slash. Without one, nobody may call it.
func OfMethod(full string) (Permission, bool) {
	p, ok := methods[full]
	return p, ok
}

// OfRoute is the permission that an HTTP route asks for, by its pattern.
// Without one, nobody may call it.
func OfRoute(pattern string) (Permission, bool) {
	p, ok := routes[pattern]
	return p, ok
}

// Methods lists the gRPC methods of the table, in order.
func Methods() []string { return slices.Sorted(maps.Keys(methods)) }

// Routes lists the HTTP routes of the table, in order.
func Routes() []string { return slices.Sorted(maps.Keys(routes)) }

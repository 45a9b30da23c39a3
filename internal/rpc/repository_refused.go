package rpc

import (
	"context"

	"google.golang.org/grpc"

	inferencepb "galley/api/inference/v2"

	"galley"
)

// notThere is the answer of what galley does not do. What to do instead is in
// the message: stock clients show no more of an error.
func notThere(what, instead string) *galley.Error {
	return galley.Errorf(galley.Unimplemented, what, "is not there: %s", instead)
}

// What to do instead of an extension that is not there.
const (
	insteadOfStream  = "ask with ModelInfer, once for each request"
	insteadOfLoading = "promote or roll back with the control API; a version is opened by the first request to it, and closed when idle"
	insteadOfMemory  = "send tensors as raw contents"
	insteadOfTrace   = "set OTEL_EXPORTER_OTLP_ENDPOINT when the server starts"
	insteadOfLogging = "set --log-format when the server starts"
)

// ModelStreamInfer answers Unimplemented, as do the methods below it.
func (s *Inference) ModelStreamInfer(grpc.BidiStreamingServer[inferencepb.ModelInferRequest, inferencepb.ModelStreamInferResponse]) error {
	return statusOf(notThere("ModelStreamInfer", insteadOfStream))
}

// RepositoryModelLoad answers Unimplemented.
func (s *Inference) RepositoryModelLoad(context.Context, *inferencepb.RepositoryModelLoadRequest) (*inferencepb.RepositoryModelLoadResponse, error) {
	return nil, statusOf(notThere("RepositoryModelLoad", insteadOfLoading))
}

// RepositoryModelUnload answers Unimplemented.
func (s *Inference) RepositoryModelUnload(context.Context, *inferencepb.RepositoryModelUnloadRequest) (*inferencepb.RepositoryModelUnloadResponse, error) {
	return nil, statusOf(notThere("RepositoryModelUnload", insteadOfLoading))
}

// SystemSharedMemoryStatus answers Unimplemented.
func (s *Inference) SystemSharedMemoryStatus(context.Context, *inferencepb.SystemSharedMemoryStatusRequest) (*inferencepb.SystemSharedMemoryStatusResponse, error) {
	return nil, statusOf(notThere("SystemSharedMemoryStatus", insteadOfMemory))
}

// SystemSharedMemoryRegister answers Unimplemented.
func (s *Inference) SystemSharedMemoryRegister(context.Context, *inferencepb.SystemSharedMemoryRegisterRequest) (*inferencepb.SystemSharedMemoryRegisterResponse, error) {
	return nil, statusOf(notThere("SystemSharedMemoryRegister", insteadOfMemory))
}

// SystemSharedMemoryUnregister answers Unimplemented.
func (s *Inference) SystemSharedMemoryUnregister(context.Context, *inferencepb.SystemSharedMemoryUnregisterRequest) (*inferencepb.SystemSharedMemoryUnregisterResponse, error) {
	return nil, statusOf(notThere("SystemSharedMemoryUnregister", insteadOfMemory))
}

// CudaSharedMemoryStatus answers Unimplemented.
func (s *Inference) CudaSharedMemoryStatus(context.Context, *inferencepb.CudaSharedMemoryStatusRequest) (*inferencepb.CudaSharedMemoryStatusResponse, error) {
	return nil, statusOf(notThere("CudaSharedMemoryStatus", insteadOfMemory))
}

// CudaSharedMemoryRegister answers Unimplemented.
func (s *Inference) CudaSharedMemoryRegister(context.Context, *inferencepb.CudaSharedMemoryRegisterRequest) (*inferencepb.CudaSharedMemoryRegisterResponse, error) {
	return nil, statusOf(notThere("CudaSharedMemoryRegister", insteadOfMemory))
}

// CudaSharedMemoryUnregister answers Unimplemented.
func (s *Inference) CudaSharedMemoryUnregister(context.Context, *inferencepb.CudaSharedMemoryUnregisterRequest) (*inferencepb.CudaSharedMemoryUnregisterResponse, error) {
	return nil, statusOf(notThere("CudaSharedMemoryUnregister", insteadOfMemory))
}

// TraceSetting answers Unimplemented.
func (s *Inference) TraceSetting(context.Context, *inferencepb.TraceSettingRequest) (*inferencepb.TraceSettingResponse, error) {
	return nil, statusOf(notThere("TraceSetting", insteadOfTrace))
}

// LogSettings answers Unimplemented.
func (s *Inference) LogSettings(context.Context, *inferencepb.LogSettingsRequest) (*inferencepb.LogSettingsResponse, error) {
	return nil, statusOf(notThere("LogSettings", insteadOfLogging))
}

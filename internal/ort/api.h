// The part of ONNX Runtime's C interface that the Go binding leaves out.
//
// ONNX Runtime hands out its functions as a table that only ever grows at its
// end; a slot is a function's place in it. Only the slots used here are
// declared. TestSlots compares them with the published header.
#ifndef GALLEY_ORT_API_H
#define GALLEY_ORT_API_H

#include <stddef.h>
#include <stdint.h>

typedef struct OrtStatus OrtStatus;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtValue OrtValue;
typedef struct OrtIoBinding OrtIoBinding;

enum {
	slot_GetErrorCode = 1,
	slot_GetErrorMessage = 2,
	slot_Run = 9,
	slot_SessionGetInputCount = 30,
	slot_SessionGetOutputCount = 31,
	slot_SessionGetInputTypeInfo = 33,
	slot_SessionGetOutputTypeInfo = 34,
	slot_SessionGetInputName = 36,
	slot_SessionGetOutputName = 37,
	slot_CreateRunOptions = 39,
	slot_RunOptionsSetTerminate = 46,
	slot_RunOptionsUnsetTerminate = 47,
	slot_CreateTensorAsOrtValue = 48,
	slot_CreateTensorWithDataAsOrtValue = 49,
	slot_IsTensor = 50,
	slot_GetTensorMutableData = 51,
	slot_GetStringTensorDataLength = 53,
	slot_GetStringTensorContent = 54,
	slot_CastTypeInfoToTensorInfo = 55,
	slot_GetTensorElementType = 60,
	slot_GetDimensionsCount = 61,
	slot_GetDimensions = 62,
	slot_GetSymbolicDimensions = 63,
	slot_GetTensorTypeAndShape = 65,
	slot_CreateCpuMemoryInfo = 69,
	slot_AllocatorFree = 76,
	slot_GetAllocatorWithDefaultOptions = 78,
	slot_ReleaseStatus = 93,
	slot_ReleaseValue = 96,
	slot_ReleaseRunOptions = 97,
	slot_ReleaseTypeInfo = 98,
	slot_ReleaseTensorTypeAndShapeInfo = 99,
	slot_CreateAllocator = 131,
	slot_ReleaseAllocator = 132,
	slot_RunWithBinding = 133,
	slot_CreateIoBinding = 134,
	slot_ReleaseIoBinding = 135,
	slot_BindInput = 136,
	slot_BindOutput = 137,
	slot_BindOutputToDevice = 138,
	slot_GetBoundOutputValues = 140,
	slot_GetResizedStringTensorElementBuffer = 252,
	slot_SessionOptionsSetLoadCancellationFlag = 293,
	slot_GetKeyValue = 297,
	slot_ReleaseKeyValuePairs = 300,
	slot_AllocatorGetStats = 319,
	slot_TensorTypeAndShape_HasShape = 390,
};

// The greatest rank a tensor may have here.
enum { api_max_rank = 64 };

// api_info describes a tensor, or an input or output of a session; rank is -1
// where it is unknown, type is 0 where it is no tensor. The strings are
// borrowed from handle, which api_info_release frees.
typedef struct {
	int type;
	int rank;
	int64_t dims[api_max_rank];
	const char *symbols[api_max_rank];
	char *name;
	void *handle;
} api_info;

// api_load fetches the function table of a library that is loaded already.
// It returns NULL, or what went wrong.
const char *api_load(const char *path, uint32_t version);

int api_status_code(OrtStatus *s);
const char *api_status_message(OrtStatus *s);
void api_status_release(OrtStatus *s);

// api_cancel_load ends the making of a session with these options.
OrtStatus *api_cancel_load(OrtSessionOptions *o);
OrtStatus *api_session_counts(OrtSession *s, size_t *inputs, size_t *outputs);
OrtStatus *api_session_info(OrtSession *s, int output, size_t i, api_info *info);
void api_info_release(api_info *info);
// api_session_memory reads what the session's arena holds; -1 if it has none.
OrtStatus *api_session_memory(OrtSession *s, int64_t *bytes);
// api_trim gives the allocator's free pages back to the system.
void api_trim(void);

OrtStatus *api_run_options(OrtRunOptions **out);
OrtStatus *api_terminate(OrtRunOptions *o, int yes);
void api_run_options_release(OrtRunOptions *o);
OrtStatus *api_run(OrtSession *s, OrtRunOptions *o, const char *const *input_names, OrtValue *const *inputs,
                   size_t n_inputs, const char *const *output_names, size_t n_outputs, OrtValue **outputs);

OrtStatus *api_value_over(void *data, size_t bytes, const int64_t *shape, size_t rank, int type, OrtValue **out);
// api_value_strings copies n strings that lie one after the other in text.
OrtStatus *api_value_strings(const char *text, const size_t *lengths, size_t n, const int64_t *shape, size_t rank,
                             OrtValue **out);
OrtStatus *api_value_info(OrtValue *v, api_info *info);
OrtStatus *api_value_data(OrtValue *v, void **data);
OrtStatus *api_string_bytes(OrtValue *v, size_t *bytes);
OrtStatus *api_string_content(OrtValue *v, void *text, size_t bytes, size_t *offsets, size_t n);
void api_value_release(OrtValue *v);

OrtStatus *api_binding(OrtSession *s, OrtIoBinding **out);
void api_binding_release(OrtIoBinding *b);
OrtStatus *api_bind_input(OrtIoBinding *b, const char *name, OrtValue *v);
OrtStatus *api_bind_output(OrtIoBinding *b, const char *name, OrtValue *v);
OrtStatus *api_bind_output_auto(OrtIoBinding *b, const char *name);
OrtStatus *api_run_binding(OrtSession *s, OrtRunOptions *o, OrtIoBinding *b);
// api_bound_outputs returns an array that api_free frees; the caller releases
// each value in it.
OrtStatus *api_bound_outputs(OrtIoBinding *b, OrtValue ***values, size_t *n);
void api_free(void *p);

#endif

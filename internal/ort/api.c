//go:build cgo && !windows

#define _GNU_SOURCE // RTLD_NOLOAD
#include "api.h"

#include <dlfcn.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct OrtAllocator OrtAllocator;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtTypeInfo OrtTypeInfo;
typedef struct OrtTensorInfo OrtTensorInfo;
typedef struct OrtKeyValuePairs OrtKeyValuePairs;

typedef struct {
	void *const *(*get_api)(uint32_t version);
	const char *(*get_version)(void);
} OrtApiBase;

static void *const *table;
static OrtAllocator *allocator;   // the default one, never released
static OrtMemoryInfo *cpu_memory; // kept for the life of the process

// CALL calls the function in a slot with the given parameter types.
#define CALL(name, ret, params) ((ret(*) params)table[slot_##name])

#define TRY(call)                 \
	do {                          \
		OrtStatus *failed = call; \
		if (failed) return failed; \
	} while (0)

const char *api_load(const char *path, uint32_t version) {
	void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
	if (!library) return "the library is not loaded";
	const OrtApiBase *(*base)(void) = (const OrtApiBase *(*)(void))dlsym(library, "OrtGetApiBase");
	if (!base) return "the library has no OrtGetApiBase";
	table = base()->get_api(version);
	if (!table) return "the library is too old";
	OrtStatus *s = CALL(GetAllocatorWithDefaultOptions, OrtStatus *, (OrtAllocator **))(&allocator);
	if (!s) s = CALL(CreateCpuMemoryInfo, OrtStatus *, (int, int, OrtMemoryInfo **))(1, 0, &cpu_memory);
	if (s) return api_status_message(s);
	return NULL;
}

int api_status_code(OrtStatus *s) { return CALL(GetErrorCode, int, (const OrtStatus *))(s); }

const char *api_status_message(OrtStatus *s) { return CALL(GetErrorMessage, const char *, (const OrtStatus *))(s); }

void api_status_release(OrtStatus *s) { CALL(ReleaseStatus, void, (OrtStatus *))(s); }

void api_free(void *p) {
	OrtStatus *s = CALL(AllocatorFree, OrtStatus *, (OrtAllocator *, void *))(allocator, p);
	if (s) api_status_release(s);
}

// fill_info reads element type and dimensions.
static OrtStatus *fill_info(const OrtTensorInfo *tensor, api_info *info) {
	size_t rank = 0;
	TRY(CALL(GetTensorElementType, OrtStatus *, (const OrtTensorInfo *, int *))(tensor, &info->type));
	TRY(CALL(GetDimensionsCount, OrtStatus *, (const OrtTensorInfo *, size_t *))(tensor, &rank));
	if (rank > api_max_rank) {
		info->rank = -1;
		return NULL;
	}
	info->rank = (int)rank;
	if (rank == 0) return NULL;
	TRY(CALL(GetDimensions, OrtStatus *, (const OrtTensorInfo *, int64_t *, size_t))(tensor, info->dims, rank));
	return CALL(GetSymbolicDimensions, OrtStatus *, (const OrtTensorInfo *, const char **, size_t))(
	    tensor, info->symbols, rank);
}

OrtStatus *api_cancel_load(OrtSessionOptions *o) {
	return CALL(SessionOptionsSetLoadCancellationFlag, OrtStatus *, (OrtSessionOptions *, bool))(o, true);
}

OrtStatus *api_session_counts(OrtSession *s, size_t *inputs, size_t *outputs) {
	TRY(CALL(SessionGetInputCount, OrtStatus *, (const OrtSession *, size_t *))(s, inputs));
	return CALL(SessionGetOutputCount, OrtStatus *, (const OrtSession *, size_t *))(s, outputs);
}

OrtStatus *api_session_info(OrtSession *s, int output, size_t i, api_info *info) {
	typedef OrtStatus *(*name_of)(const OrtSession *, size_t, OrtAllocator *, char **);
	typedef OrtStatus *(*info_of)(const OrtSession *, size_t, OrtTypeInfo **);
	memset(info, 0, sizeof *info);
	OrtTypeInfo *type = NULL;
	const OrtTensorInfo *tensor = NULL;
	if (output) {
		TRY(((name_of)table[slot_SessionGetOutputName])(s, i, allocator, &info->name));
		TRY(((info_of)table[slot_SessionGetOutputTypeInfo])(s, i, &type));
	} else {
		TRY(((name_of)table[slot_SessionGetInputName])(s, i, allocator, &info->name));
		TRY(((info_of)table[slot_SessionGetInputTypeInfo])(s, i, &type));
	}
	info->handle = type;
	TRY(CALL(CastTypeInfoToTensorInfo, OrtStatus *, (const OrtTypeInfo *, const OrtTensorInfo **))(type, &tensor));
	if (!tensor) return NULL;
	TRY(fill_info(tensor, info));
	// A scalar has a shape of no dimensions; a tensor of any shape has none.
	typedef bool (*has_shape)(const OrtTensorInfo *);
	if (info->rank == 0 && !((has_shape)table[slot_TensorTypeAndShape_HasShape])(tensor)) info->rank = -1;
	return NULL;
}

void api_info_release(api_info *info) {
	if (info->name) api_free(info->name);
	if (info->handle) CALL(ReleaseTypeInfo, void, (OrtTypeInfo *))(info->handle);
	memset(info, 0, sizeof *info);
}

OrtStatus *api_session_memory(OrtSession *s, int64_t *bytes) {
	OrtAllocator *arena = NULL;
	OrtKeyValuePairs *stats = NULL;
	*bytes = -1;
	TRY(CALL(CreateAllocator, OrtStatus *, (const OrtSession *, const OrtMemoryInfo *, OrtAllocator **))(
	    s, cpu_memory, &arena));
	OrtStatus *failed =
	    CALL(AllocatorGetStats, OrtStatus *, (const OrtAllocator *, OrtKeyValuePairs **))(arena, &stats);
	if (!failed && stats) {
		const char *total =
		    CALL(GetKeyValue, const char *, (const OrtKeyValuePairs *, const char *))(stats, "TotalAllocated");
		if (total) *bytes = strtoll(total, NULL, 10);
		CALL(ReleaseKeyValuePairs, void, (OrtKeyValuePairs *))(stats);
	}
	CALL(ReleaseAllocator, void, (OrtAllocator *))(arena);
	return failed;
}

void api_trim(void) {
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}

OrtStatus *api_run_options(OrtRunOptions **out) {
	return CALL(CreateRunOptions, OrtStatus *, (OrtRunOptions **))(out);
}

OrtStatus *api_terminate(OrtRunOptions *o, int yes) {
	if (yes) return CALL(RunOptionsSetTerminate, OrtStatus *, (OrtRunOptions *))(o);
	return CALL(RunOptionsUnsetTerminate, OrtStatus *, (OrtRunOptions *))(o);
}

void api_run_options_release(OrtRunOptions *o) { CALL(ReleaseRunOptions, void, (OrtRunOptions *))(o); }

OrtStatus *api_run(OrtSession *s, OrtRunOptions *o, const char *const *input_names, OrtValue *const *inputs,
                   size_t n_inputs, const char *const *output_names, size_t n_outputs, OrtValue **outputs) {
	return CALL(Run, OrtStatus *,
	            (OrtSession *, const OrtRunOptions *, const char *const *, OrtValue *const *, size_t,
	             const char *const *, size_t, OrtValue **))(s, o, input_names, inputs, n_inputs, output_names,
	                                                        n_outputs, outputs);
}

OrtStatus *api_value_over(void *data, size_t bytes, const int64_t *shape, size_t rank, int type, OrtValue **out) {
	return CALL(CreateTensorWithDataAsOrtValue, OrtStatus *,
	            (const OrtMemoryInfo *, void *, size_t, const int64_t *, size_t, int, OrtValue **))(
	    cpu_memory, data, bytes, shape, rank, type, out);
}

OrtStatus *api_value_strings(const char *text, const size_t *lengths, size_t n, const int64_t *shape, size_t rank,
                             OrtValue **out) {
	const int string_type = 8;
	TRY(CALL(CreateTensorAsOrtValue, OrtStatus *, (OrtAllocator *, const int64_t *, size_t, int, OrtValue **))(
	    allocator, shape, rank, string_type, out));
	for (size_t i = 0; i < n; i++) {
		char *buffer = NULL;
		OrtStatus *failed = CALL(GetResizedStringTensorElementBuffer, OrtStatus *,
		                         (OrtValue *, size_t, size_t, char **))(*out, i, lengths[i], &buffer);
		if (failed) {
			api_value_release(*out);
			*out = NULL;
			return failed;
		}
		if (lengths[i]) memcpy(buffer, text, lengths[i]);
		text += lengths[i];
	}
	return NULL;
}

OrtStatus *api_value_info(OrtValue *v, api_info *info) {
	int is_tensor = 0;
	OrtTensorInfo *tensor = NULL;
	memset(info, 0, sizeof *info);
	TRY(CALL(IsTensor, OrtStatus *, (const OrtValue *, int *))(v, &is_tensor));
	if (!is_tensor) return NULL;
	TRY(CALL(GetTensorTypeAndShape, OrtStatus *, (const OrtValue *, OrtTensorInfo **))(v, &tensor));
	OrtStatus *failed = fill_info(tensor, info);
	memset(info->symbols, 0, sizeof info->symbols); // borrowed from tensor
	CALL(ReleaseTensorTypeAndShapeInfo, void, (OrtTensorInfo *))(tensor);
	return failed;
}

OrtStatus *api_value_data(OrtValue *v, void **data) {
	return CALL(GetTensorMutableData, OrtStatus *, (OrtValue *, void **))(v, data);
}

OrtStatus *api_string_bytes(OrtValue *v, size_t *bytes) {
	return CALL(GetStringTensorDataLength, OrtStatus *, (const OrtValue *, size_t *))(v, bytes);
}

OrtStatus *api_string_content(OrtValue *v, void *text, size_t bytes, size_t *offsets, size_t n) {
	return CALL(GetStringTensorContent, OrtStatus *, (const OrtValue *, void *, size_t, size_t *, size_t))(
	    v, text, bytes, offsets, n);
}

void api_value_release(OrtValue *v) { CALL(ReleaseValue, void, (OrtValue *))(v); }

OrtStatus *api_binding(OrtSession *s, OrtIoBinding **out) {
	return CALL(CreateIoBinding, OrtStatus *, (OrtSession *, OrtIoBinding **))(s, out);
}

void api_binding_release(OrtIoBinding *b) { CALL(ReleaseIoBinding, void, (OrtIoBinding *))(b); }

OrtStatus *api_bind_input(OrtIoBinding *b, const char *name, OrtValue *v) {
	return CALL(BindInput, OrtStatus *, (OrtIoBinding *, const char *, const OrtValue *))(b, name, v);
}

OrtStatus *api_bind_output(OrtIoBinding *b, const char *name, OrtValue *v) {
	return CALL(BindOutput, OrtStatus *, (OrtIoBinding *, const char *, const OrtValue *))(b, name, v);
}

OrtStatus *api_bind_output_auto(OrtIoBinding *b, const char *name) {
	return CALL(BindOutputToDevice, OrtStatus *, (OrtIoBinding *, const char *, const OrtMemoryInfo *))(
	    b, name, cpu_memory);
}

OrtStatus *api_run_binding(OrtSession *s, OrtRunOptions *o, OrtIoBinding *b) {
	return CALL(RunWithBinding, OrtStatus *, (OrtSession *, const OrtRunOptions *, const OrtIoBinding *))(s, o, b);
}

OrtStatus *api_bound_outputs(OrtIoBinding *b, OrtValue ***values, size_t *n) {
	return CALL(GetBoundOutputValues, OrtStatus *, (const OrtIoBinding *, OrtAllocator *, OrtValue ***, size_t *))(
	    b, allocator, values, n);
}

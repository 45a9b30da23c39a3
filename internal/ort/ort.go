//go:build cgo && !windows

package ort

// #include "api.h"
import "C"

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"

	yalue "github.com/yalue/onnxruntime_go"

	"galley"
	"galley/internal/processors"
	"galley/onnx/session"
)

// apiVersion is the version of the function table that both this package and
// the Go binding use: any ONNX Runtime from 1.24 has it.
const apiVersion = 24

// Enabled says whether this build can load a library.
const Enabled = true

// A Runtime is a loaded ONNX Runtime. It implements session.Opener and may be
// used by several goroutines at once.
type Runtime struct {
	path    string
	version string
	account account
}

var _ session.Opener = (*Runtime)(nil)

var loaded struct {
	sync.Mutex
	runtime *Runtime
}

// Load loads the library at path. A process has one library: loading the same
// path again returns the same Runtime, and another path is an error.
func Load(path string) (*Runtime, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err == nil {
		resolved, err = filepath.Abs(resolved)
	}
	if err != nil {
		return nil, galley.Errorf(galley.NotFound, path, "no ONNX Runtime library: %w", err).
			WithRemedy("run galley doctor --fix, or name the library in GALLEY_ORT_LIB")
	}
	loaded.Lock()
	defer loaded.Unlock()
	if loaded.runtime != nil {
		if loaded.runtime.path != resolved {
			return nil, galley.Errorf(galley.FailedPrecondition, path,
				"this process has loaded %s already", loaded.runtime.path)
		}
		return loaded.runtime, nil
	}
	yalue.SetSharedLibraryPath(resolved)
	if err := yalue.InitializeEnvironment(yalue.WithLogLevelFatal()); err != nil {
		return nil, galley.Errorf(galley.FailedPrecondition, path, "not a usable ONNX Runtime: %w", err).
			WithRemedy("ONNX Runtime 1.24 or later for %s/%s is needed; run galley doctor --fix", runtime.GOOS, runtime.GOARCH)
	}
	if err := loadAPI(resolved); err != nil {
		_ = yalue.DestroyEnvironment()
		return nil, galley.Errorf(galley.FailedPrecondition, path, "not a usable ONNX Runtime: %w", err)
	}
	_ = yalue.DisableTelemetry() // only builds for Windows have any
	loaded.runtime = &Runtime{path: resolved, version: yalue.GetVersion()}
	return loaded.runtime, nil
}

// Runtime names the runtime and its version: "onnxruntime 1.30.0".
func (r *Runtime) Runtime() string { return "onnxruntime " + r.version }

// Version is the library's own word for its version: "1.30.0".
func (r *Runtime) Version() string { return r.version }

// Path is the library that was loaded.
func (r *Runtime) Path() string { return r.path }

// Account tells what the open sessions hold.
func (r *Runtime) Account() Account { return r.account.read() }

// Trim gives memory back to the system that closed sessions have left with
// the C library, which would keep it for later.
func (r *Runtime) Trim() { C.api_trim() }

// Open loads a model's bytes. Bytes that name external data are refused: it
// would be looked for in the working folder. OpenFile takes it.
func (r *Runtime) Open(ctx context.Context, model []byte, opts session.Options) (session.Session, error) {
	if opts.Label == "" {
		opts.Label = "model"
	}
	if len(model) == 0 {
		return nil, galley.Errorf(galley.InvalidArgument, opts.Label, "the model is empty")
	}
	if _, external := externalBytes(model); external {
		return nil, galley.Errorf(galley.InvalidArgument, opts.Label, "the model's weights lie in files beside it").
			WithRemedy("open it from its file, or write it with the weights inside")
	}
	return r.open(ctx, opts, int64(len(model)), func(o *yalue.SessionOptions) (*yalue.DynamicAdvancedSession, error) {
		return yalue.NewDynamicAdvancedSessionWithONNXData(model, nil, nil, o)
	})
}

// OpenFile loads a model from a file, with external data beside it.
func (r *Runtime) OpenFile(ctx context.Context, path string, opts session.Options) (session.Session, error) {
	if opts.Label == "" {
		opts.Label = path
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, galley.Errorf(galley.NotFound, opts.Label, "no model: %w", err)
	}
	if info.IsDir() {
		return nil, galley.Errorf(galley.InvalidArgument, opts.Label, "%s is a folder, not a model", path)
	}
	return r.open(ctx, opts, fileBytes(path, info.Size()), func(o *yalue.SessionOptions) (*yalue.DynamicAdvancedSession, error) {
		return yalue.NewDynamicAdvancedSession(path, nil, nil, o)
	})
}

// fileBytes is the size of a model with its external data. A large file holds
// its weights itself and is not searched for external ones.
func fileBytes(path string, size int64) int64 {
	const large = 64 << 20
	if size > large {
		return size
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return size
	}
	external, _ := externalBytes(data)
	return size + external
}

// open makes a session with create and reads its inputs and outputs. The end
// of ctx meanwhile ends it, where the runtime looks: between its own steps.
func (r *Runtime) open(ctx context.Context, opts session.Options, modelBytes int64,
	create func(*yalue.SessionOptions) (*yalue.DynamicAdvancedSession, error)) (session.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, interrupted(opts.Label, err)
	}
	o, err := options(opts)
	if err != nil {
		return nil, err
	}
	defer o.Destroy()
	native, err := loading(ctx, o, opts.Label, create)
	if err != nil {
		return nil, err
	}
	s, err := newSession(r, native, opts.Label, modelBytes)
	if err != nil {
		_ = native.Destroy()
		return nil, err
	}
	return s, nil
}

// options translates opts.
func options(opts session.Options) (*yalue.SessionOptions, error) {
	if opts.Threads < 0 || opts.Threads > 4096 {
		return nil, galley.Errorf(galley.InvalidArgument, opts.Label, "%d threads: want 0 (one per core) to 4096", opts.Threads)
	}
	levels := map[session.Level]yalue.GraphOptimizationLevel{
		session.OptimizeAll:      yalue.GraphOptimizationLevelEnableAll,
		session.OptimizeExtended: yalue.GraphOptimizationLevelEnableExtended,
		session.OptimizeBasic:    yalue.GraphOptimizationLevelEnableBasic,
		session.OptimizeNone:     yalue.GraphOptimizationLevelDisableAll,
	}
	level, ok := levels[opts.Optimize]
	if !ok {
		return nil, galley.Errorf(galley.InvalidArgument, opts.Label, "optimization level %d is unknown", opts.Optimize)
	}
	threads := opts.Threads
	if threads == 0 {
		threads = processors.Cores() // heeds a container's limit; the runtime's own default does not
	}
	o, err := yalue.NewSessionOptions()
	if err != nil {
		return nil, galley.Errorf(galley.Internal, opts.Label, "session options: %w", err)
	}
	spinning := "1"
	if opts.NoSpinning {
		spinning = "0"
	}
	for _, set := range []func() error{
		func() error { return o.SetIntraOpNumThreads(threads) },
		func() error { return o.SetInterOpNumThreads(1) },
		func() error { return o.SetExecutionMode(yalue.ExecutionModeSequential) },
		func() error { return o.SetGraphOptimizationLevel(level) },
		func() error { return o.SetCpuMemArena(!opts.NoArena) },
		func() error { return o.SetMemPattern(!opts.NoMemoryPattern) },
		func() error { return o.SetLogSeverityLevel(yalue.LoggingLevelFatal) },
		func() error { return o.AddSessionConfigEntry("session.intra_op.allow_spinning", spinning) },
		func() error { return o.AddSessionConfigEntry("session.load_model_format", "ONNX") },
	} {
		if err := set(); err != nil {
			_ = o.Destroy()
			return nil, galley.Errorf(galley.Internal, opts.Label, "session options with %s threads: %w", strconv.Itoa(threads), err)
		}
	}
	return o, nil
}

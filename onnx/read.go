package onnx

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/proto"

	"galley"
	onnxpb "galley/api/onnx/v1"
	"galley/internal/durable"
)

// ReadOptions say what a model may be.
type ReadOptions struct {
	Limits Limits
	// AnyOpset reads models of any version of the standard operators, to run
	// them as they are; InferShapes may leave more of them unknown.
	AnyOpset bool
}

// Unmarshal reads a model from the bytes of an ONNX file and checks it. Old
// forms are normalised: initializers are not listed as inputs, typed data
// becomes bytes, the standard domain is "". Descriptive fields that have no
// place in a Model (denotations of dimensions, documentation of attributes
// and tensors) are dropped; anything else that has none is refused.
//
// The errors are *galley.Error and name the node or tensor. External data
// needs ReadFile.
func Unmarshal(data []byte, opts ReadOptions) (*Model, error) {
	return unmarshal(data, opts, nil)
}

// Read is Unmarshal of all of r.
func Read(r io.Reader, opts ReadOptions) (*Model, error) {
	data, err := readAll(r, opts.Limits.withDefaults().Bytes, 0)
	if err != nil {
		return nil, err
	}
	return Unmarshal(data, opts)
}

// ReadFile reads a model from a file, and external data from the folder that
// the file is in and from nowhere else.
func ReadFile(path string, opts ReadOptions) (*Model, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, durable.ReadError(path, err)
	}
	defer f.Close()
	hint := int64(0)
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		hint = info.Size()
	}
	data, err := readAll(f, opts.Limits.withDefaults().Bytes, hint)
	if err != nil {
		return nil, durable.ReadError(path, err)
	}
	external, err := openExternal(filepath.Dir(path))
	if err != nil {
		return nil, durable.ReadError(path, err)
	}
	defer external.close()
	m, err := unmarshal(data, opts, external)
	var e *galley.Error
	if errors.As(err, &e) && e.Subject == "model" {
		named := *e
		named.Subject = filepath.Base(path)
		return nil, &named
	}
	return m, err
}

func unmarshal(data []byte, opts ReadOptions, external *externalData) (*Model, error) {
	limits := opts.Limits.withDefaults()
	if int64(len(data)) > limits.Bytes {
		return nil, tooLarge(limits.Bytes)
	}
	if err := scan(data, limits); err != nil {
		return nil, err
	}
	var p onnxpb.ModelProto
	if err := proto.Unmarshal(data, &p); err != nil {
		return nil, invalid("model", "is no ONNX file: %w", err)
	}
	d := &decoder{limits: limits, external: external}
	m, err := d.model(&p)
	if err != nil {
		return nil, err
	}
	if err := checkVersions(m, opts.AnyOpset); err != nil {
		return nil, err
	}
	if err := Check(m); err != nil {
		return nil, err
	}
	return m, nil
}

// readAll reads at most limit bytes. A right hint of their number spares
// growing, hence a second copy.
func readAll(r io.Reader, limit, hint int64) ([]byte, error) {
	if hint > limit {
		return nil, tooLarge(limit)
	}
	r = io.LimitReader(r, limit+1)
	data := make([]byte, 0, hint+512)
	for {
		n, err := r.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if int64(len(data)) > limit {
			return nil, tooLarge(limit)
		}
		if errors.Is(err, io.EOF) {
			return data, nil
		}
		if err != nil {
			return nil, durable.ReadError("model", err)
		}
		if len(data) == cap(data) {
			data = slices.Grow(data, cap(data))
		}
	}
}

func tooLarge(limit int64) error {
	return galley.Errorf(galley.ResourceExhausted, "model", "is larger than %d bytes", limit).
		WithRemedy("store its tensors as external data")
}

package onnx

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"galley"
	onnxpb "galley/api/onnx/v1"
)

// externalData reads tensors from files in a model's folder; os.Root keeps it
// inside, symbolic links included.
type externalData struct {
	root  *os.Root
	files map[string]*os.File
}

func openExternal(folder string) (*externalData, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	return &externalData{root: root, files: map[string]*os.File{}}, nil
}

func (e *externalData) close() {
	for _, f := range e.files {
		f.Close()
	}
	e.root.Close()
}

// A location says where a tensor's bytes lie.
type location struct {
	path   string
	offset int64
	length int64 // -1 if it is not given
}

func parseLocation(entries []*onnxpb.StringStringEntryProto, where string) (location, error) {
	loc := location{length: -1}
	for _, e := range entries {
		var err error
		switch e.GetKey() {
		case "location":
			loc.path = e.GetValue()
		case "offset":
			loc.offset, err = parseSize(e.GetValue())
		case "length":
			loc.length, err = parseSize(e.GetValue())
		}
		if err != nil {
			return loc, invalid(where, "external data has the %s %s, which is no size", e.GetKey(), quote(e.GetValue()))
		}
	}
	if loc.path == "" {
		return loc, invalid(where, "external data has no location")
	}
	if !filepath.IsLocal(filepath.FromSlash(loc.path)) {
		return loc, galley.Errorf(galley.PermissionDenied, where,
			"external data %s lies outside of the model's folder", quote(loc.path)).
			WithRemedy("put the file beside the model and name it by a relative path")
	}
	return loc, nil
}

func parseSize(s string) (int64, error) {
	v, err := strconv.ParseUint(s, 10, 63)
	return int64(v), err
}

// read returns the want bytes of a tensor at loc.
func (e *externalData) read(loc location, want int64, where string) ([]byte, error) {
	if loc.length >= 0 && loc.length != want {
		return nil, invalid(where, "has %d bytes of external data; its type and dimensions take %d", loc.length, want)
	}
	f, size, err := e.open(loc.path)
	if err != nil {
		return nil, externalError(loc, where, err)
	}
	if loc.offset > math.MaxInt64-want || loc.offset+want > size {
		return nil, invalid(where, "external data %s has %d bytes; the tensor needs %d from offset %d",
			quote(loc.path), size, want, loc.offset).WithRemedy("check that the file was copied whole")
	}
	data := make([]byte, want)
	if _, err := io.ReadFull(io.NewSectionReader(f, loc.offset, want), data); err != nil {
		return nil, externalError(loc, where, err)
	}
	return data, nil
}

var errNotRegular = errors.New("not a regular file")

// open opens a file once. Only regular files: opening another may block.
func (e *externalData) open(path string) (*os.File, int64, error) {
	f, ok := e.files[path]
	if !ok {
		info, err := e.root.Stat(path)
		if err != nil {
			return nil, 0, err
		}
		if !info.Mode().IsRegular() {
			return nil, 0, errNotRegular
		}
		if len(e.files) >= maxExternalFiles {
			return nil, 0, errTooManyFiles
		}
		if f, err = e.root.Open(path); err != nil {
			return nil, 0, err
		}
		e.files[path] = f
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, errNotRegular
	}
	return f, info.Size(), nil
}

// maxExternalFiles bounds the files that are open at once.
const maxExternalFiles = 256

var errTooManyFiles = errors.New("more than 256 files of external data")

func externalError(loc location, where string, err error) error {
	code := galley.PermissionDenied // os.Root names no error for a path that escapes
	switch {
	case errors.Is(err, fs.ErrNotExist):
		code = galley.NotFound
	case errors.Is(err, errNotRegular):
		code = galley.InvalidArgument
	case errors.Is(err, errTooManyFiles):
		code = galley.ResourceExhausted
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		code = galley.DataLoss
	}
	return galley.Errorf(code, where, "external data %s cannot be read: %w", quote(loc.path), err).
		WithRemedy("put the file beside the model")
}

package onnx

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"galley"
	onnxpb "galley/api/onnx/v1"
	"galley/internal/durable"
)

// Marshal writes a model as the bytes of an ONNX file. Equal models give
// equal bytes.
func Marshal(m *Model) ([]byte, error) { return (&encoder{}).marshal(m) }

// WriteOptions say how a file is laid out.
type WriteOptions struct {
	// External puts initializers of at least so many bytes into a file of
	// their own beside the model; 0 keeps all in the model. The data file
	// is named after the model and its own content.
	External int64
}

// WriteFile writes a model to a file: the old file, if any, is replaced in
// one step or stays as it was. External data of earlier versions is left in
// place.
func WriteFile(path string, m *Model, opts WriteOptions) error {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	e := &encoder{}
	if opts.External > 0 {
		tmp, err := os.CreateTemp(dir, "."+base+".data-*")
		if err != nil {
			return writeError(path, err)
		}
		defer os.Remove(tmp.Name())
		defer tmp.Close()
		e.external = newExternalWriter(tmp, opts.External)
		// The name depends on the content, hence is known after a first pass.
		if _, err := e.model(m); err != nil {
			return writeError(path, err)
		}
		if err := e.external.finish(base); err != nil {
			return writeError(path, err)
		}
		if e.external.size > 0 {
			if err := os.Rename(tmp.Name(), filepath.Join(dir, e.external.name)); err != nil {
				return writeError(path, err)
			}
		}
	}
	data, err := e.marshal(m)
	if err != nil {
		return err
	}
	return writeError(path, durable.Write(path, 0o644, data))
}

// settle makes a temporary file readable as others are, and durable.
func settle(f *os.File) error {
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func writeError(path string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*galley.Error); ok {
		return e
	}
	return galley.Errorf(galley.Unknown, path, "cannot be written: %w", err)
}

// externalAlign is where a tensor's bytes may begin: at a page, so that
// readers can map them.
const externalAlign = 4096

// An externalWriter lays tensors one after the other in a file. A second pass
// over the same model gives the same places without writing again.
type externalWriter struct {
	threshold int64
	file      *os.File
	out       *bufio.Writer
	sum       hash.Hash
	size      int64
	name      string // empty during the first pass
	next      int64
}

func newExternalWriter(f *os.File, threshold int64) *externalWriter {
	sum := sha256.New()
	return &externalWriter{
		threshold: threshold, file: f, sum: sum,
		out: bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<16),
	}
}

func (w *externalWriter) takes(t *Tensor) bool {
	return t.Type != String && int64(len(t.Data)) >= w.threshold
}

// write places a tensor and says where.
func (w *externalWriter) write(data []byte) ([]*onnxpb.StringStringEntryProto, error) {
	offset := (w.next + externalAlign - 1) / externalAlign * externalAlign
	if w.name == "" {
		if _, err := w.out.Write(make([]byte, offset-w.next)); err != nil {
			return nil, err
		}
		if _, err := w.out.Write(data); err != nil {
			return nil, err
		}
	}
	w.next = offset + int64(len(data))
	return []*onnxpb.StringStringEntryProto{
		entry("location", w.name),
		entry("offset", strconv.FormatInt(offset, 10)),
		entry("length", strconv.Itoa(len(data))),
	}, nil
}

// finish ends the first pass: the file is whole and its name known.
func (w *externalWriter) finish(base string) error {
	if err := w.out.Flush(); err != nil {
		return err
	}
	if err := settle(w.file); err != nil {
		return err
	}
	w.size, w.next = w.next, 0
	w.name = base + "." + hex.EncodeToString(w.sum.Sum(nil)[:6]) + ".data"
	return nil
}

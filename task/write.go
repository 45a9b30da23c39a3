package task

import (
	"bytes"
	"io"
	"os"
	"path/filepath"

	"galley/feature/text"
	"galley/onnx"
)

// WriteBundle writes a model's folder: the graph, how it is fed and read, and
// its tokenizer. The folder appears whole or not at all.
func WriteBundle(dir string, m *onnx.Model, config *Config, tokenizer *text.Tokenizer) error {
	graph, err := onnx.Marshal(m)
	if err != nil {
		return err
	}
	settings, err := config.Encode()
	if err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".*.tmp")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	if err := os.Chmod(temporary, 0o755); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{ModelFile, graph}, {ConfigFile, settings}} {
		if err := writeFile(filepath.Join(temporary, f.name), bytes.NewReader(f.data)); err != nil {
			return err
		}
	}
	if err := WriteTokenizer(filepath.Join(temporary, TokenizerFile), tokenizer); err != nil {
		return err
	}
	return os.Rename(temporary, dir)
}

// WriteTokenizer writes a tokenizer.json, whole or not at all.
func WriteTokenizer(path string, tokenizer *text.Tokenizer) error {
	var b bytes.Buffer
	if _, err := tokenizer.WriteTo(&b); err != nil {
		return err
	}
	temporary := path + ".tmp"
	if err := writeFile(temporary, &b); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// writeFile writes a file and waits until it is on disk.
func writeFile(path string, r io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

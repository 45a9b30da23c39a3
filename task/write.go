package task

import (
	"os"
	"path/filepath"

	"galley/feature/text"
	"galley/internal/durable"
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
		if err := durable.Write(filepath.Join(temporary, f.name), 0o644, f.data); err != nil {
			return err
		}
	}
	if err := WriteTokenizer(filepath.Join(temporary, TokenizerFile), tokenizer); err != nil {
		return err
	}
	if err := os.Rename(temporary, dir); err != nil {
		return err
	}
	return durable.SyncFolder(filepath.Dir(dir))
}

// WriteTokenizer writes a tokenizer.json, whole or not at all.
func WriteTokenizer(path string, tokenizer *text.Tokenizer) error {
	return durable.Replace(path, 0o644, func(f *os.File) error {
		_, err := tokenizer.WriteTo(f)
		return err
	})
}

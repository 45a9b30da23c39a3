package task

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"galley"
)

func bundleFiles(t *testing.T) fstest.MapFS {
	b, err := config().Encode()
	if err != nil {
		t.Fatal(err)
	}
	return fstest.MapFS{
		ConfigFile:    {Data: b},
		TokenizerFile: {Data: tokenizerJSON(t)},
		ModelFile:     {Data: []byte("graph")},
	}
}

func TestOpenBundle(t *testing.T) {
	files := bundleFiles(t)
	b, err := OpenBundle(files)
	if err != nil {
		t.Fatal(err)
	}
	if model, err := b.Model(); err != nil || string(model) != "graph" || b.ModelPath() != "" {
		t.Error(model, err)
	}
	if b.Config.MaxLength != 8 || b.Tokenizer.VocabSize() != len(words) {
		t.Error(b.Config)
	}
	dir := t.TempDir()
	for name, f := range files {
		if err := os.WriteFile(filepath.Join(dir, name), f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err = OpenBundleDir(dir)
	if err != nil || b.ModelPath() != filepath.Join(dir, ModelFile) {
		t.Error(b, err)
	}
}

func TestOpenBundleErrors(t *testing.T) {
	for _, name := range []string{ModelFile, ConfigFile, TokenizerFile} {
		files := bundleFiles(t)
		delete(files, name)
		if _, err := OpenBundle(files); galley.CodeOf(err) != galley.NotFound || !strings.Contains(err.Error(), name+": the model's folder has no such file") {
			t.Error(err)
		}
		files[name+"/x"] = &fstest.MapFile{}
		if _, err := OpenBundle(files); galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), name) {
			t.Error(err)
		}
	}
	for _, name := range []string{ConfigFile, TokenizerFile} {
		files := bundleFiles(t)
		files[name].Data = []byte(`{"colour":1}`)
		if _, err := OpenBundle(files); galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(err.Error(), name) {
			t.Error(err)
		}
	}
}

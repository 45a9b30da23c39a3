package task

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"galley"
	"galley/feature/text"
)

// The files of a model's folder.
const (
	ModelFile     = "model.onnx"
	ConfigFile    = "galley.json"
	TokenizerFile = "tokenizer.json"
)

// maxModel bounds a model.onnx: the most that one protocol buffer can be.
const maxModel = 2 << 30

// A Bundle is a model's folder: the graph, how it is fed and read, and its
// tokenizer.
type Bundle struct {
	Config    *Config
	Tokenizer *text.Tokenizer

	files fs.FS
	dir   string
}

// OpenBundle reads a model's folder, all but the graph.
func OpenBundle(files fs.FS) (*Bundle, error) {
	b := &Bundle{files: files}
	err := b.open(ConfigFile, func(f fs.File) (err error) {
		b.Config, err = DecodeConfig(f)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = b.open(TokenizerFile, func(f fs.File) (err error) {
		b.Tokenizer, err = text.Load(f)
		return err
	})
	if err != nil {
		return nil, err
	}
	return b, b.open(ModelFile, func(fs.File) error { return nil })
}

// OpenBundleDir reads a model's folder on disk.
func OpenBundleDir(dir string) (*Bundle, error) {
	b, err := OpenBundle(os.DirFS(dir))
	if err != nil {
		return nil, err
	}
	b.dir = dir
	return b, nil
}

// ModelPath is the graph's path if the folder is on disk, else empty.
func (b *Bundle) ModelPath() string {
	if b.dir == "" {
		return ""
	}
	return filepath.Join(b.dir, ModelFile)
}

// Model reads the graph.
func (b *Bundle) Model() (model []byte, err error) {
	err = b.open(ModelFile, func(f fs.File) error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if info.Size() > maxModel {
			return errors.New("it is larger than 2 GiB")
		}
		model = make([]byte, info.Size())
		_, err = io.ReadFull(f, model)
		return err
	})
	return model, err
}

// open calls use with one of the folder's files; its errors name the file.
func (b *Bundle) open(name string, use func(fs.File) error) error {
	f, err := b.files.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return galley.Errorf(galley.NotFound, name, "the model's folder has no such file").
			WithRemedy("a model's folder has %s, %s and %s", ModelFile, ConfigFile, TokenizerFile)
	}
	if err != nil {
		return galley.Errorf(galley.FailedPrecondition, name, "%w", err)
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return galley.Errorf(galley.FailedPrecondition, name, "it is a folder")
	}
	if err := use(f); err != nil {
		var coded *galley.Error
		if errors.As(err, &coded) && coded.Subject == name {
			return err
		}
		return galley.Errorf(galley.InvalidArgument, name, "%w", err)
	}
	return nil
}

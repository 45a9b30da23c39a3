package control

import (
	"crypto/sha256"
	"hash"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"galley"
	"galley/dataset"
	"galley/internal/durable"
)

// Bounds of what a request may upload.
const (
	maxSpool      = 20 << 30 // bytes of all its files
	maxSpoolFiles = 64
	maxName       = 255
)

// A Spool takes the files of a request, piece by piece, into a folder of its
// own. It is for one goroutine; Close removes it.
type Spool struct {
	dir   string
	size  int64
	files map[string]*spooled
}

type spooled struct {
	file *os.File
	hash hash.Hash
	name string // the client's own, for messages
}

// NewSpool makes an empty spool.
func (c *Control) NewSpool() (*Spool, error) {
	dir, err := os.MkdirTemp(c.temp(), "upload-*")
	if err != nil {
		return nil, durable.WriteError(c.temp(), err)
	}
	return &Spool{dir: dir, files: map[string]*spooled{}}, nil
}

// Write appends data to the named file, which begins with its first piece.
// client is what the client calls it.
func (s *Spool) Write(name, client string, data []byte) error {
	if s.size += int64(len(data)); s.size > maxSpool {
		return galley.Errorf(galley.ResourceExhausted, "upload", "is larger than %d GiB", maxSpool>>30)
	}
	f := s.files[name]
	if f == nil {
		if len(s.files) == maxSpoolFiles {
			return galley.Errorf(galley.ResourceExhausted, "upload", "has more than %d files", maxSpoolFiles)
		}
		if err := checkFileName(name); err != nil {
			return err
		}
		to := filepath.Join(s.dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return durable.WriteError(to, err)
		}
		file, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return durable.WriteError(to, err)
		}
		if client = strings.ToValidUTF8(galley.Clip(client, maxName), ""); client == "" {
			client = name
		}
		f = &spooled{file: file, hash: sha256.New(), name: client}
		s.files[name] = f
	}
	f.hash.Write(data)
	if _, err := f.file.Write(data); err != nil {
		return durable.WriteError("upload", err)
	}
	return nil
}

// checkFileName checks the name of a file inside an upload.
func checkFileName(name string) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) || strings.ContainsAny(name, "\\:\x00\n\r") ||
		path.Clean(name) != name || !filepath.IsLocal(filepath.FromSlash(name)) {
		return galley.Errorf(galley.InvalidArgument, "upload", "%q cannot be the name of a file", galley.Clip(name, 80)).
			WithRemedy("use a relative path of at most %d bytes", maxName)
	}
	return nil
}

// Close removes the spool with its files.
func (s *Spool) Close() {
	for _, f := range s.files {
		_ = f.file.Close() // it is about to be removed
	}
	_ = os.RemoveAll(s.dir) // what stays is removed at the next start
}

// finish flushes the files, so that others can read them.
func (s *Spool) finish() error {
	if s == nil {
		return nil
	}
	for name, f := range s.files {
		if err := f.file.Close(); err != nil {
			return durable.WriteError(name, err)
		}
	}
	return nil
}

// input is a spooled file as dataset reads it.
func (s *Spool) input(name string) (dataset.Input, bool) {
	if s == nil {
		return dataset.Input{}, false
	}
	f, ok := s.files[name]
	if !ok {
		return dataset.Input{}, false
	}
	return dataset.Input{Name: f.name, Open: func() (io.ReadCloser, error) { return os.Open(filepath.Join(s.dir, name)) }}, true
}

func (s *Spool) digest(name string) galley.Digest { return galley.SumDigest(s.files[name].hash) }

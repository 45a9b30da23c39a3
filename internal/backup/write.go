package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"io"
	"time"

	"galley"
)

// A Writer writes an archive. It is for one goroutine.
type Writer struct {
	tar   *tar.Writer
	files []File
	bytes int64
}

// NewWriter makes a writer of an archive to w.
func NewWriter(w io.Writer) *Writer { return &Writer{tar: tar.NewWriter(w)} }

// Add appends a file, of which r has exactly size bytes.
func (w *Writer) Add(path string, size int64, r io.Reader) error {
	if !allowed(path, size) {
		return galley.Errorf(galley.Internal, path, "does not belong into a backup")
	}
	h := sha256.New()
	if err := w.entry(path, size, io.TeeReader(r, h)); err != nil {
		return err
	}
	f := File{Path: path, Size: size, Digest: galley.SumDigest(h)}
	if d := Blob(path); d != "" && d != f.Digest {
		return galley.Errorf(galley.DataLoss, string(d), "was damaged while it was backed up")
	}
	w.files, w.bytes = append(w.files, f), w.bytes+size
	return nil
}

func (w *Writer) entry(path string, size int64, r io.Reader) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: path, Size: size, Mode: 0o600, Format: tar.FormatPAX}
	if err := w.tar.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(w.tar, r)
	if err == nil && n != size {
		err = galley.Errorf(galley.DataLoss, path, "has %d bytes, not %d: it changed while it was backed up", n, size)
	}
	return err
}

// Files returns how many files were added, and their bytes.
func (w *Writer) Files() (files int, size int64) { return len(w.files), w.bytes }

// Close ends the archive with its manifest, of which it fills in the format
// and the files.
func (w *Writer) Close(m Manifest) error {
	m.Format, m.Files, m.Created = format, w.files, m.Created.UTC().Truncate(time.Microsecond)
	data, err := json.Marshal(m)
	if err != nil {
		return galley.Errorf(galley.Internal, manifestName, "cannot be written: %w", err)
	}
	if err := w.entry(manifestName, int64(len(data)), bytes.NewReader(data)); err != nil {
		return err
	}
	return w.tar.Close()
}

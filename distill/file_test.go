package distill

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"galley"
)

// Whatever lies in the place of a file, it is taken only if it is the file.
func FuzzOpenFile(f *testing.F) {
	const of, count = galley.Digest("sha256:of"), 3
	path := filepath.Join(f.TempDir(), "whole")
	if err := writeFile(path, of, count, func(part func([]float32) error) error { return part([]float32{1, -2, 0.5}) }); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(append(bytes.Clone(whole), 0))
	f.Add([]byte(magic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := openFile(path, of, count)
		if err == nil {
			err = file.Close()
		}
		if taken := err == nil; taken != bytes.Equal(data, whole) {
			t.Errorf("%d bytes: taken %v, %v", len(data), taken, err)
		}
	})
}

// Package library finds ONNX Runtime on this machine and obtains it where it
// is missing.
//
// It loads nothing and needs no cgo: what a file is, it tells from the file.
// Package ort loads what Find or Obtain return.
package library

import (
	"os"
	"path/filepath"
	"runtime"
)

// Version is the ONNX Runtime that Obtain fetches. MinVersion is the oldest
// that package ort can use.
const (
	Version    = "1.30.0"
	MinVersion = "1.24"
)

// A Library is an ONNX Runtime found on this machine.
type Library struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Source  string `json:"source"` // where it came from: "GALLEY_ORT_LIB", "system", "cache", "npm", …
}

// Options say where to look. The zero value is this machine's usual places.
type Options struct {
	// Path is a library, or a folder with one, named by the user (the
	// command passes GALLEY_ORT_LIB). It is used or refused; nothing else is
	// looked at.
	Path string
	// Cache is the folder that obtained libraries lie in, one folder a
	// version. Empty is DefaultCache.
	Cache string
	// System are the folders looked at for an installed library. Nil is the
	// system's own.
	System []string
}

// DefaultCache is the user's cache folder for galley's libraries:
// $XDG_CACHE_HOME/galley/onnxruntime, or the same below ~/.cache.
func DefaultCache() (string, error) {
	if dir := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "galley", "onnxruntime"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".cache", "galley", "onnxruntime"), nil
}

// fileName is the name under which a system keeps a version of the library.
func fileName(version string) string {
	if runtime.GOOS == "darwin" {
		return "libonnxruntime." + version + ".dylib"
	}
	return "libonnxruntime.so." + version
}

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
	MinVersion = "1.24.0"
)

// A Library is an ONNX Runtime found on this machine.
type Library struct {
	Path    string `json:"path"`
	Version string `json:"version"` // "1.30.0", or "unknown" where the file does not tell
	// Source is where it came from: "GALLEY_ORT_LIB", "system", or for one in
	// the cache the source it was obtained from: "npm", "pip", "release".
	Source string `json:"source"`
}

// Options say where to look. The zero value is this machine's usual places.
type Options struct {
	// Path is a library, or a folder with one, that the user named (the
	// command passes GALLEY_ORT_LIB). It is used or refused; nothing else is
	// looked at.
	Path string
	// Cache is the folder that obtained libraries lie in, one folder a
	// version. Empty is DefaultCache.
	Cache string
	// System are the folders looked at for an installed library; nil is the
	// system's own.
	System []string
	// sources have the library; nil are those known for this machine.
	sources []source
}

// DefaultCache is the user's cache folder for the library:
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

// resolved fills in the defaults.
func (o Options) resolved() (Options, error) {
	if o.Cache == "" {
		dir, err := DefaultCache()
		if err != nil {
			return o, err
		}
		o.Cache = dir
	}
	if o.System == nil {
		o.System = systemFolders(runtime.GOOS, runtime.GOARCH)
	}
	if o.sources == nil {
		o.sources = sources(platform{runtime.GOOS, runtime.GOARCH})
	}
	return o, nil
}

// cached is where the cache keeps the pinned version.
func (o Options) cached() string {
	return filepath.Join(o.Cache, Version, fileName(runtime.GOOS, Version))
}

// fileName is the name under which a system keeps a version of the library.
func fileName(goos, version string) string {
	if goos == "darwin" {
		return "libonnxruntime." + version + ".dylib"
	}
	return "libonnxruntime.so." + version
}

// systemFolders are the places where packages install libraries.
func systemFolders(goos, goarch string) []string {
	if goos == "darwin" {
		return []string{"/opt/homebrew/lib", "/usr/local/lib"}
	}
	folders := []string{"/usr/local/lib", "/usr/lib", "/usr/lib64"}
	switch goarch {
	case "amd64":
		folders = append(folders, "/usr/lib/x86_64-linux-gnu")
	case "arm64":
		folders = append(folders, "/usr/lib/aarch64-linux-gnu")
	}
	return folders
}

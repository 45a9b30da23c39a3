package library

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"galley"
)

// Find returns the library to use: the named one; else the newest usable one
// of the system's; else the cache's, if its digest is right. The error lists
// what was found and why it is of no use.
func Find(opts Options) (Library, error) {
	opts, err := opts.resolved()
	if err != nil {
		return Library{}, galley.Errorf(galley.FailedPrecondition, "ONNX Runtime", "no cache folder: %w", err)
	}
	here := platform{runtime.GOOS, runtime.GOARCH}
	if opts.Path != "" {
		lib, err := named(opts.Path, here)
		if err != nil {
			return Library{}, galley.Errorf(galley.FailedPrecondition, "GALLEY_ORT_LIB", "%w", err).
				WithRemedy("let it name libonnxruntime of version %s or later for %s, or unset it", MinVersion, here)
		}
		return lib, nil
	}
	var refused []string
	if lib, ok := installed(opts.System, here, &refused); ok {
		return lib, nil
	}
	lib, err := fromCache(opts.cached(), here, opts.sources)
	if err == nil {
		return lib, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		refused = append(refused, err.Error())
	}
	message := "not on this machine"
	if len(refused) > 0 {
		message = "no usable one on this machine: " + strings.Join(refused, "; ")
	}
	return Library{}, galley.Errorf(galley.NotFound, "ONNX Runtime", "%s", message).
		WithRemedy("run galley doctor --fix, or name a library of version %s or later in GALLEY_ORT_LIB", MinVersion)
}

// named checks the file, or the best file in the folder, at path.
func named(path string, here platform) (Library, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Library{}, err
	}
	if !info.IsDir() {
		return usable(path, "GALLEY_ORT_LIB", here)
	}
	var refused []string
	if lib, ok := installed([]string{path}, here, &refused); ok {
		lib.Source = "GALLEY_ORT_LIB"
		return lib, nil
	}
	if len(refused) > 0 {
		return Library{}, errors.New(strings.Join(refused, "; "))
	}
	return Library{}, fmt.Errorf("%s holds no libonnxruntime", path)
}

// installed returns the newest usable library in the folders, and notes why
// others are not.
func installed(folders []string, here platform, refused *[]string) (Library, bool) {
	var best Library
	for _, folder := range folders {
		for _, pattern := range []string{"libonnxruntime.so", "libonnxruntime.so.*", "libonnxruntime.dylib", "libonnxruntime.*.dylib"} {
			names, _ := fs.Glob(os.DirFS(folder), pattern)
			slices.Sort(names)
			for _, name := range names {
				lib, err := usable(filepath.Join(folder, name), "system", here)
				if err != nil {
					*refused = append(*refused, err.Error())
					continue
				}
				if best.Path == "" || best.Version == unknown && lib.Version != unknown || older(best.Version, lib.Version) {
					best = lib
				}
			}
		}
	}
	return best, best.Path != ""
}

// usable checks a file's platform and version.
func usable(path, source string, here platform) (Library, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Library{}, err
	}
	if !info.Mode().IsRegular() {
		return Library{}, fmt.Errorf("%s is not a file", path)
	}
	p, version, err := inspect(path)
	if err != nil {
		return Library{}, err
	}
	if p != here {
		return Library{}, fmt.Errorf("%s is for %s, not for %s", path, p, here)
	}
	if older(version, MinVersion) {
		return Library{}, fmt.Errorf("%s is version %s, %s or later is needed", path, version, MinVersion)
	}
	return Library{Path: path, Version: version, Source: source}, nil
}

// A record lies beside an obtained library and tells where it came from.
type record struct {
	Version       string `json:"version"`
	Source        string `json:"source"`
	SHA256        string `json:"sha256"`
	ArchiveSHA256 string `json:"archive_sha256"`
}

func recordPath(library string) string { return library + ".json" }

// fromCache checks the library that Obtain left: its digest is a source's
// pinned one or, where a source pins its archive alone, the one that Obtain
// recorded when it took the library out of that archive.
func fromCache(path string, here platform, known []source) (Library, error) {
	if _, err := os.Stat(path); err != nil {
		return Library{}, err
	}
	digest, err := digestOf(path)
	if err != nil {
		return Library{}, err
	}
	var r record
	if data, err := os.ReadFile(recordPath(path)); err == nil {
		_ = json.Unmarshal(data, &r) // a damaged record vouches for nothing
	}
	for _, s := range known {
		recorded := s.pin.library == "" && r.Source == s.name && r.ArchiveSHA256 == s.pin.archive && r.SHA256 == digest
		if s.pin.library != digest && !recorded {
			continue
		}
		lib, err := usable(path, s.name, here)
		if err == nil && lib.Version == unknown {
			lib.Version = Version
		}
		return lib, err
	}
	return Library{}, fmt.Errorf("%s is damaged: its digest %s is not a known one", path, digest)
}

// digestOf returns a file's SHA-256 in hexadecimal.
func digestOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	digest, _, err := galley.DigestReader(f)
	return digest.Hex(), err
}

package library

import (
	"os"
	"path/filepath"

	"galley"
)

// Find returns the library to use: the named one, else the cache's.
func Find(opts Options) (Library, error) {
	if opts.Path != "" {
		return Library{Path: opts.Path, Version: "unknown", Source: "GALLEY_ORT_LIB"}, nil
	}
	cache := opts.Cache
	if cache == "" {
		var err error
		if cache, err = DefaultCache(); err != nil {
			return Library{}, err
		}
	}
	path := filepath.Join(cache, Version, fileName(Version))
	if _, err := os.Stat(path); err != nil {
		return Library{}, galley.Errorf(galley.NotFound, "ONNX Runtime", "not on this machine").
			WithRemedy("run galley doctor --fix")
	}
	return Library{Path: path, Version: Version, Source: "cache"}, nil
}

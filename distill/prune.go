package distill

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"galley"
)

// Prune removes answers below a folder until they have at most so many bytes:
// first those that were of no use for longest. Whoever reads them asks again.
func Prune(folder string, most int64) error {
	type answers struct {
		path string
		used time.Time
		size int64
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return galley.Errorf(galley.Unavailable, folder, "%w", err)
	}
	var all []answers
	total := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // it was removed meanwhile
		}
		a := answers{path: filepath.Join(folder, e.Name()), used: info.ModTime()}
		_ = filepath.WalkDir(a.path, func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
				a.size += info.Size()
			}
			return nil
		})
		all, total = append(all, a), total+a.size
	}
	slices.SortFunc(all, func(a, b answers) int { return a.used.Compare(b.used) })
	for _, a := range all {
		if total <= most {
			break
		}
		if err := os.RemoveAll(a.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return galley.Errorf(galley.Unavailable, a.path, "%w", err)
		}
		total -= a.size
	}
	return nil
}

package distill

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Those that were of no use for longest go first, until the rest fits.
func TestPrune(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"a", "c", "b"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "0"), make([]byte, 100), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(int64(1000*i), 0)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		most int64
		want []string
	}{{300, []string{"a", "b", "c"}}, {299, []string{"b", "c"}}, {150, []string{"b"}}, {0, nil}} {
		if err := Prune(dir, c.most); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, e := range entries {
			left = append(left, e.Name())
		}
		if !slices.Equal(left, c.want) {
			t.Errorf("within %d bytes: %v, want %v", c.most, left, c.want)
		}
	}
	if Prune(filepath.Join(dir, "gone"), 1) == nil {
		t.Error("a folder that there is not")
	}
}

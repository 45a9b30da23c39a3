package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A pkg is what `go list` says of a package.
type pkg struct {
	ImportPath string
	Dir        string
	Name       string
	GoFiles    []string
	CgoFiles   []string
	Imports    []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Name,GoFiles,CgoFiles,Imports", "galley/...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %s", exit.Stderr)
		}
		t.Fatal(err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// place returns the layer of a package of the module.
func place(path string) (layer, bool) {
	if l, ok := layers[path]; ok {
		return l, true
	}
	for dir := path; strings.Contains(dir, "/"); dir = dir[:strings.LastIndex(dir, "/")] {
		if l, ok := layers[dir+"/..."]; ok {
			return l, true
		}
	}
	return 0, false
}

func TestImportsGoDown(t *testing.T) {
	for _, p := range list(t) {
		own, ok := place(p.ImportPath)
		if !ok {
			t.Errorf("%s has no place in the table of layers", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			if c, ok := confined[imported]; ok && c.only != p.ImportPath {
				t.Errorf("%s imports %s, which belongs to %s alone: %s", p.ImportPath, imported, c.only, c.why)
			}
			if imported != "galley" && !strings.HasPrefix(imported, "galley/") {
				if own == 0 && p.ImportPath == "galley" && strings.Contains(imported, ".") {
					t.Errorf("galley imports %s: the vocabulary stands on the standard library", imported)
				}
				continue
			}
			other, ok := place(imported)
			if ok && (other > own || other == own && own > 0 && !slices.Contains(within[p.ImportPath], imported)) {
				t.Errorf("%s (layer %d) imports %s (layer %d)", p.ImportPath, own, imported, other)
			}
		}
	}
}

// TestTableIsTrue holds that the tables name no package that is gone.
func TestTableIsTrue(t *testing.T) {
	var paths []string
	for _, p := range list(t) {
		paths = append(paths, p.ImportPath)
	}
	exists := func(pattern string) bool {
		if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
			return slices.ContainsFunc(paths, func(p string) bool { return p == dir || strings.HasPrefix(p, dir+"/") })
		}
		return slices.Contains(paths, pattern)
	}
	for path := range layers {
		if !exists(path) {
			t.Errorf("layers names %s, which does not exist", path)
		}
	}
	for path, imports := range within {
		for _, p := range append([]string{path}, imports...) {
			if !exists(p) {
				t.Errorf("within names %s, which does not exist", p)
			}
		}
	}
}

// TestPackageComments holds that each package says in one place what it is.
func TestPackageComments(t *testing.T) {
	for _, p := range list(t) {
		comments := 0
		for _, name := range append(p.GoFiles, p.CgoFiles...) {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil && len(strings.TrimSpace(f.Doc.Text())) > 0 {
				comments++
			}
		}
		if comments != 1 && len(p.GoFiles)+len(p.CgoFiles) > 0 {
			t.Errorf("%s has %d package comments, want one", p.ImportPath, comments)
		}
	}
}

// TestNames holds that no package is a drawer for everything.
func TestNames(t *testing.T) {
	for _, p := range list(t) {
		switch filepath.Base(p.ImportPath) {
		case "util", "utils", "common", "helpers", "misc", "pkg", "types":
			t.Errorf("%s says nothing by its name", p.ImportPath)
		}
	}
}

package docs_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestDependencies holds that dependencies.md has a line for each direct
// dependency of both modules, and no other.
func TestDependencies(t *testing.T) {
	text := read(t, "dependencies.md")
	for _, module := range []struct{ file, folder string }{
		{"go.mod", "."},
		{"tools/go.mod", "tools"},
	} {
		file := read(t, filepath.Join(root, filepath.FromSlash(module.file)))
		direct := directModules(t, file, filepath.Join(root, module.folder))
		listed := section(text, "## "+module.file)
		for _, path := range direct {
			cells, ok := listed[path]
			if !ok {
				t.Errorf("dependencies.md has no line for %s of %s", path, module.file)
				continue
			}
			if len(cells) != 5 || slices.Contains(cells, "") {
				t.Errorf("dependencies.md: the line of %s has an empty cell", path)
			}
		}
		for path := range listed {
			if !slices.Contains(direct, path) {
				t.Errorf("dependencies.md lists %s, which is no direct dependency of %s", path, module.file)
			}
		}
	}
}

// section is the tables below a heading.
func section(text, heading string) map[string][]string {
	_, text, _ = strings.Cut(text, heading+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	return rows(text)
}

var (
	required = regexp.MustCompile(`(?m)^(?:require )?\t?([\w./-]+\.[\w./-]+) v\S+`)
	tool     = regexp.MustCompile(`(?m)^(?:tool )?\t?([\w./-]+\.[\w./-]+)$`)
)

// directModules are the modules of a go.mod whose packages are imported below
// the folder, under any build tags, or named as tools.
func directModules(t *testing.T, gomod, folder string) []string {
	t.Helper()
	var modules []string
	for _, m := range required.FindAllStringSubmatch(gomod, -1) {
		modules = append(modules, m[1])
	}
	packages := imports(t, folder)
	for _, m := range tool.FindAllStringSubmatch(gomod, -1) {
		packages = append(packages, m[1])
	}
	var direct []string
	for _, pkg := range packages {
		owner := ""
		for _, m := range modules {
			if (pkg == m || strings.HasPrefix(pkg, m+"/")) && len(m) > len(owner) {
				owner = m
			}
		}
		if owner == "" {
			t.Errorf("no module of %s has %s", folder, pkg)
		} else if !slices.Contains(direct, owner) {
			direct = append(direct, owner)
		}
	}
	return direct
}

// imports are the packages of other modules that Go files import.
func imports(t *testing.T, folder string) []string {
	t.Helper()
	seen := map[string]bool{}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			hidden := strings.HasPrefix(d.Name(), ".") && path != folder
			other := d.Name() == "tools" && path != folder // a module of its own
			if hidden || other || d.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if first, _, _ := strings.Cut(name, "/"); strings.Contains(first, ".") {
				seen[name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for name := range seen {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

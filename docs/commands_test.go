package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A command is a line of a page's shell blocks, in words.
type command struct {
	page  string
	line  string
	words []string
}

var shell = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// commands are the lines that run a program.
func commands(t *testing.T, p page, program string) []command {
	t.Helper()
	var out []command
	for _, block := range shell.FindAllStringSubmatch(p.text, -1) {
		for _, line := range strings.Split(block[1], "\n") {
			if line != program && !strings.HasPrefix(line, program+" ") {
				continue
			}
			words, ok := split(line)
			if !ok {
				t.Errorf("%s: a quote of %q does not close", p.path, line)
				continue
			}
			out = append(out, command{p.path, line, words[1:]})
		}
	}
	return out
}

// split takes a line apart as a shell does, for quotes and spaces.
func split(line string) (words []string, ok bool) {
	var word strings.Builder
	var quote rune
	begun := false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, begun = r, true
		case quote == 0 && r == ' ':
			if begun {
				words = append(words, word.String())
				word.Reset()
			}
			begun = false
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if begun {
		words = append(words, word.String())
	}
	return words, quote == 0
}

func TestMakeTargetsExist(t *testing.T) {
	makefile := read(t, filepath.Join(root, "Makefile"))
	for _, p := range pages(t) {
		for _, c := range commands(t, p, "make") {
			for _, target := range c.words {
				if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(target) + `:`).MatchString(makefile) {
					t.Errorf("%s: %q: the Makefile has no target %s", c.page, c.line, target)
				}
			}
		}
	}
}

// TestBenchmarksExist holds that the tests which pages say to run are in the
// packages that they name.
func TestBenchmarksExist(t *testing.T) {
	for _, p := range pages(t) {
		for _, c := range commands(t, p, "go test") {
			folder := c.words[len(c.words)-1]
			at := slices.Index(c.words, "-run")
			if at < 0 {
				continue
			}
			files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(folder), "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(files, func(file string) bool {
				return strings.Contains(read(t, file), "\nfunc "+c.words[at+1])
			}) {
				t.Errorf("%s: %q: %s has no such test", c.page, c.line, folder)
			}
		}
	}
}

// A program runs galley from the repository's root, in a home of its own.
type program struct {
	binary, home string
}

// build makes the binary that the pages speak of.
func build(t *testing.T) program {
	t.Helper()
	if testing.Short() {
		t.Skip("builds galley")
	}
	dir := t.TempDir()
	g := program{filepath.Join(dir, "galley"), filepath.Join(dir, "home")}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", g.binary, "./cmd/galley")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return g
}

// TestGalley holds what the pages say of the binary to the binary.
func TestGalley(t *testing.T) {
	g := build(t)
	t.Run("commands", g.commands)
	t.Run("defaults", g.defaults)
}

func (g program) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), g.binary, args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GALLEY_HOME="+g.home)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

var (
	available = regexp.MustCompile(`(?ms)^Available Commands:\n(.*?)\n\n`)
	flag      = regexp.MustCompile(`(?m)^ +(?:(-\w), )?(--[\w-]+)`)
)

// subcommands are those that a help text lists.
func subcommands(help string) []string {
	var out []string
	if m := available.FindStringSubmatch(help); m != nil {
		for _, line := range strings.Split(m[1], "\n") {
			if fields := strings.Fields(line); len(fields) > 0 {
				out = append(out, fields[0])
			}
		}
	}
	return out
}

// commands holds that each command of the pages and its flags exist, and runs
// those that are cheap.
func (g program) commands(t *testing.T) {
	help := map[string]string{}
	helpOf := func(path []string) string {
		key := strings.Join(path, " ")
		if _, ok := help[key]; !ok {
			out, err := g.run(t, append(slices.Clone(path), "--help")...)
			if err != nil {
				t.Fatalf("galley %s --help: %v\n%s", key, err, out)
			}
			help[key] = out
		}
		return help[key]
	}
	seen := 0
	for _, p := range pages(t) {
		for _, c := range commands(t, p, "galley") {
			seen++
			var path []string
			for _, word := range c.words {
				known := subcommands(helpOf(path))
				if len(known) == 0 {
					break
				}
				if !slices.Contains(known, word) {
					t.Errorf("%s: %q: %q is not a command of galley %s", c.page, c.line, word, strings.Join(path, " "))
					break
				}
				path = append(path, word)
			}
			checkFlags(t, c, helpOf(path))
			if cheap(path, c.words) {
				if out, err := g.run(t, append(slices.Clone(c.words), "--local")...); err != nil {
					t.Errorf("%s: %q: %v\n%s", c.page, c.line, err, out)
				}
			}
		}
	}
	if seen == 0 {
		t.Error("the pages have no commands")
	}
}

// checkFlags holds that a command's help lists each flag that the line has.
func checkFlags(t *testing.T, c command, help string) {
	t.Helper()
	var known []string
	for _, m := range flag.FindAllStringSubmatch(help, -1) {
		known = append(known, m[1:]...)
	}
	for _, word := range c.words {
		if !strings.HasPrefix(word, "-") || word == "-" {
			continue
		}
		name, _, _ := strings.Cut(word, "=")
		if !slices.Contains(known, name) {
			t.Errorf("%s: %q: there is no flag %s", c.page, c.line, name)
		}
	}
}

// cheap reports whether a command can run in a fresh home, in a moment, on
// what the repository holds and the lines before it made.
func cheap(path, words []string) bool {
	switch strings.Join(path, " ") {
	case "data add", "data show", "data list", "jobs list", "models list":
		return true
	case "train":
		return slices.Contains(words, "--print-spec")
	default:
		return false
	}
}

// defaults holds the table of job fields to what --print-spec prints.
func (g program) defaults(t *testing.T) {
	out, err := g.run(t, "train", filepath.Join("examples", "jobs", "shortest.yaml"), "--print-spec")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	stated := rows(read(t, "training.md"))
	for field, value := range flatten(out) {
		row, ok := stated[field]
		if !ok {
			t.Errorf("training.md has no line for %s", field)
			continue
		}
		if slices.Contains([]string{"apiVersion", "kind", "name", "task", "data.dataset"}, field) {
			continue // the file gives them
		}
		if said, _, _ := strings.Cut(strings.Trim(row[1], "`"), ";"); said != value {
			t.Errorf("training.md: the default of %s is %s, not %s", field, value, said)
		}
	}
}

// rows are the lines of a page's tables by their first cell, without the
// back quotes around it.
func rows(text string) map[string][]string {
	out := map[string][]string{}
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		var cells []string
		for _, cell := range strings.Split(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		out[strings.Trim(cells[0], "`")] = cells
	}
	return out
}

// flatten reads the YAML that galley prints: maps and scalars, two spaces a
// level.
func flatten(text string) map[string]string {
	out := map[string]string{}
	var path []string
	for _, line := range strings.Split(text, "\n") {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		level := (len(line) - len(strings.TrimLeft(line, " "))) / 2
		path = append(path[:level], name)
		if value = strings.TrimSpace(value); value != "" {
			out[strings.Join(path, ".")] = value
		}
	}
	return out
}

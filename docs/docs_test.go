package docs_test

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the repository, from here.
const root = ".."

// A page is a document and its text.
type page struct {
	path string // from the repository's root, with slashes
	text string
}

// pages are the documents that people read first.
func pages(t *testing.T) []page {
	t.Helper()
	found := []string{filepath.Join(root, "README.md")}
	for _, pattern := range []string{"docs/*.md", "examples/*/*.md"} {
		paths, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, paths...)
	}
	var all []page
	for _, path := range found {
		name, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page{filepath.ToSlash(name), read(t, path)})
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// prose is the page without its fenced blocks.
func (p page) prose() string { return fence.ReplaceAllString(p.text, "") }

var (
	fence   = regexp.MustCompile("(?ms)^```.*?^```$")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the names that a page's headings can be linked by.
func (p page) anchors() []string {
	var out []string
	for _, m := range heading.FindAllStringSubmatch(p.prose(), -1) {
		name := dropped.ReplaceAllString(strings.ToLower(m[1]), "")
		out = append(out, strings.ReplaceAll(strings.TrimSpace(name), " ", "-"))
	}
	return out
}

func TestLinksResolve(t *testing.T) {
	for _, p := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(p.prose(), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := filepath.Join(root, filepath.FromSlash(p.path))
			if file != "" {
				target = filepath.Join(filepath.Dir(target), filepath.FromSlash(file))
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", p.path, m[1])
				continue
			}
			if anchor != "" && !slices.Contains((page{text: read(t, target)}).anchors(), anchor) {
				t.Errorf("%s links to %s, but there is no such heading", p.path, m[1])
			}
		}
	}
}

// TestPictures holds that pictures are whole, speak to those who cannot see
// them, and have colours for a dark page.
func TestPictures(t *testing.T) {
	paths, err := filepath.Glob("*.svg")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no pictures: %v", err)
	}
	for _, path := range paths {
		text := read(t, path)
		for d := xml.NewDecoder(strings.NewReader(text)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
		}
		for _, part := range []string{"<title", "<desc", "prefers-color-scheme: dark"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s has no %s", path, part)
			}
		}
	}
}

// TestNoPathsOfOneMachine holds that no page names a place that only its
// author has.
func TestNoPathsOfOneMachine(t *testing.T) {
	absolute, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	own := []string{absolute + "/", filepath.Dir(absolute) + "/", "/root/", "/home/", "/Users/"}
	if home, err := os.UserHomeDir(); err == nil {
		own = append(own, home+"/")
	}
	own = slices.DeleteFunc(own, func(path string) bool { return strings.Trim(path, "/") == "" })
	texts := pages(t)
	pictures, _ := filepath.Glob("*.svg")
	for _, path := range pictures {
		texts = append(texts, page{path, read(t, path)})
	}
	for _, p := range texts {
		for _, path := range own {
			for _, at := range allIndexes(p.text, path) {
				// As the middle of another path, or of an address, it is none.
				if at == 0 || strings.ContainsRune(" \t\n\"'`(=:", rune(p.text[at-1])) {
					t.Errorf("%s names %s", p.path, path)
				}
			}
		}
	}
}

func allIndexes(s, part string) []int {
	var out []int
	for from := 0; ; {
		i := strings.Index(s[from:], part)
		if i < 0 {
			return out
		}
		out = append(out, from+i)
		from += i + len(part)
	}
}

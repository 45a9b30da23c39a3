//go:build peers

package peers_test

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// shared is what the quickstart leaves behind: a home with the models
// headlines-base@1, headlines@1 (which is prod), headlines@2, which is worse,
// a student, its form of 8 bits and a damaged version, headlines@3 to @5, on
// which a server runs for all tests that ask for it.
var shared struct {
	once   sync.Once
	err    error
	server *server
}

// quickstart returns the server on the quickstart's home.
func quickstart(t *testing.T) *server {
	t.Helper()
	path := program(t)
	shared.once.Do(func() {
		home := filepath.Join(scratch, "quickstart")
		if out, err := exec.CommandContext(t.Context(), path, "quickstart", "--home", home, "-o", "json").CombinedOutput(); err != nil {
			shared.err = fmt.Errorf("galley quickstart: %w\n%s", err, out)
			return
		}
		shared.err = errors.New("the server on the quickstart's home did not start")
		shared.server = startServer(t, home)
		shared.err = nil
		atEnd = append(atEnd, func() { shared.server.stop() })
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// A prediction is what `predict` says of texts.
type prediction struct {
	Model   string
	Outputs []answer
}

// An answer is a classifier's to one text.
type answer struct {
	Label  string             `json:"label"`
	Score  float64            `json:"score"`
	Scores map[string]float64 `json:"scores"`
}

// predict asks the command for answers to texts.
func predict(t *testing.T, s *server, ref string, texts []string) prediction {
	t.Helper()
	var p prediction
	args := []string{"predict", ref}
	for _, text := range texts {
		if strings.ContainsRune(text, '\n') {
			t.Fatalf("%q is not one line", text)
		}
		args = append(args, "--text", text)
	}
	s.call(t, &p, args...)
	if len(p.Outputs) != len(texts) {
		t.Fatalf("%d answers to %d texts", len(p.Outputs), len(texts))
	}
	return p
}

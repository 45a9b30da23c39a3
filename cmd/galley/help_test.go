package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
)

// help runs a command's --help.
func help(t *testing.T, path ...string) string {
	t.Helper()
	var out, errOut bytes.Buffer
	if code := run(t.Context(), append(path, "--help"), nil, &out, &errOut, os.LookupEnv); code != exitOK || errOut.Len() > 0 {
		t.Errorf("%v --help: exit code %d, %s", path, code, errOut.String())
	}
	return out.String()
}

// Each command shows how it is called.
func TestHelpHasExamples(t *testing.T) {
	a := newApp(nil, nil, nil, os.LookupEnv)
	seen := 0
	for _, c := range commandsOf(a.root()) {
		if c.Hidden {
			continue
		}
		seen++
		path := strings.Fields(c.CommandPath())
		text := help(t, path[1:]...)
		_, examples, ok := strings.Cut(text, "Examples:\n")
		if !ok || !strings.HasPrefix(examples, "  "+strings.Join(path, " ")) {
			t.Errorf("%s --help has no example of it:\n%s", c.CommandPath(), text)
		}
		if c.Short == "" {
			t.Errorf("%s has no short description", c.CommandPath())
		}
	}
	if seen < 20 {
		t.Errorf("%d commands", seen)
	}
}

// What is not there yet is not advertised.
func TestHelpHidesWhatIsNotThere(t *testing.T) {
	text := help(t)
	for _, c := range laterCommands() {
		if slices.Contains(strings.Fields(text), c.Name()) {
			t.Errorf("galley --help mentions %s", c.Name())
		}
	}
	if strings.Contains(text, attemptName) {
		t.Error("galley --help mentions the attempts' own command")
	}
}

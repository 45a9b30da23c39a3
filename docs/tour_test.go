package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// left are the commands of the README that the tour leaves out, and why.
var left = map[string]string{
	"galley up --home galley-quickstart":      "the tour has a server",
	"galley jobs cancel mine-k7n2s5sryt":      "the job is over",
	"galley jobs resume mine-k7n2s5sryt":      "the job is over",
	"galley models import minilm/model.onnx ": "the model does not come along",
	"galley federate ":                        "the quickstart trains it, with three partners",
	"galley partner serve ":                   "it answers rounds until it is ended",
}

// shorter makes what the tour trains small enough for a test.
var shorter = map[string][]string{
	"galley train examples/jobs/shortest.yaml --set ": {"--set", "data.fraction=0.05", "--set", "recipe.epochs=1", "--set", "model.layers=1", "--set", "model.hidden=32", "--set", "model.heads=2"},
	"galley distill ": {"--set", "recipe.epochs=1"},
	// Of models that know nothing yet, each answer may be another.
	"galley quantize ": {"--set", "max_drop=100"},
}

var (
	jobID        = regexp.MustCompile(`\bmine-[0-9a-z]{10}\b`)
	predictionID = regexp.MustCompile(`prediction (\S+)`)
)

// TestTour runs the commands of the README in their order, on a home that has
// the versions headlines@1, which is in production, and headlines@2, as that of
// the quickstart does.
func TestTour(t *testing.T) {
	g := build(t)
	at := g.serve(t)
	dir := t.TempDir()
	examples, err := filepath.Abs(filepath.Join(root, "examples"))
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"examples": examples, "galley-quickstart": g.home} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Skipf("no links here: %v", err)
		}
	}
	run := func(line string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), g.binary, append(args, "--server", at.grpc)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GALLEY_HOME="+g.home)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, tail(string(out)))
		}
		return string(out)
	}
	for _, line := range []string{
		"data add headlines --train examples/headlines/train.csv --valid examples/headlines/valid.csv --test examples/headlines/test.csv",
		"train examples/jobs/headlines-worse.yaml --wait",
		"train examples/jobs/headlines-worse.yaml --set recipe.seed=8 --wait",
		"models promote headlines@1 prod --force --reason first",
	} {
		run(line, strings.Fields(line)...)
	}
	job, prediction := "", ""
	for _, c := range commands(t, page{"README.md", read(t, filepath.Join(root, "README.md"))}, "galley") {
		if hasPrefix(left, c.line) != "" {
			continue
		}
		args := append([]string{}, c.words...)
		for i, word := range args {
			args[i] = strings.NewReplacer("PREDICTION_ID", prediction, "127.0.0.1:8003", at.partners).Replace(jobID.ReplaceAllString(word, job))
		}
		args = append(args, shorter[hasPrefix(shorter, c.line)]...)
		out := run(c.line, args...)
		if id := jobID.FindString(out); id != "" && strings.HasPrefix(c.line, "galley train ") {
			job = id
		}
		if m := predictionID.FindStringSubmatch(out); m != nil {
			prediction = m[1]
		}
	}
}

// hasPrefix returns the key that a line begins with, "" if there is none.
func hasPrefix[V any](keys map[string]V, line string) string {
	for key := range keys {
		if strings.HasPrefix(line, key) {
			return key
		}
	}
	return ""
}

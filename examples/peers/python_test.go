//go:build peers

package peers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// python returns the interpreter that has the peers, or skips the test.
func python(t *testing.T) string {
	t.Helper()
	path := os.Getenv("GALLEY_PEERS_PYTHON")
	if path == "" {
		t.Skip("GALLEY_PEERS_PYTHON names no Python with the packages of peers/requirements.txt")
	}
	return path
}

// script is a command that runs a script of testdata.
func script(t *testing.T, ctx context.Context, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, python(t), append([]string{filepath.Join("testdata", name)}, args...)...)
	cmd.Env = append(os.Environ(), "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "PYTHONDONTWRITEBYTECODE=1", "PYTHONIOENCODING=utf-8")
	return cmd
}

// runScript feeds a script one JSON document and reads one.
func runScript(t *testing.T, in, out any, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	data, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	cmd := script(t, ctx, name, args...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(data), &stderr
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, stderr.Bytes())
	}
	if err := decode(bytes.NewReader(stdout), out); err != nil {
		t.Fatalf("%s: %v: %.1000s", name, err, stdout)
	}
}

// decode reads one document whose fields are all known.
func decode(r io.Reader, out any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	return d.Decode(out)
}

// A check is something that a script found to hold, or not.
type check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// report makes a test of each check.
func report(t *testing.T, checks []check) {
	t.Helper()
	if len(checks) == 0 {
		t.Fatal("the script checked nothing")
	}
	for _, c := range checks {
		t.Run(c.Name, func(t *testing.T) {
			if !c.OK {
				t.Error(c.Detail)
			}
		})
	}
}

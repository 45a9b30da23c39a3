package peers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// scratch is a folder of this process, for what several tests share.
var scratch string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "galley-peers-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(scratch)
	defer func() {
		for _, end := range atEnd {
			end()
		}
	}()
	return m.Run()
}

// atEnd is what ends what several tests share.
var atEnd []func()

// errNoRuntime says that models cannot be run here.
var errNoRuntime = errors.New("no ONNX Runtime")

// build makes the command once and obtains what it needs.
var build = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "galley")
	if out, err := exec.Command("go", "build", "-o", path, "galley/cmd/galley").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	doctor := exec.Command(path, "doctor", "--fix")
	doctor.Dir = scratch
	if out, err := doctor.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", errNoRuntime, out)
	}
	return path, nil
})

// program returns the path of the command, or skips the test where no model
// can be run.
func program(t *testing.T) string {
	t.Helper()
	path, err := build()
	if errors.Is(err, errNoRuntime) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// call runs the command against a server, or in a home if address is empty,
// and reads its JSON into out, if not nil.
func call(t *testing.T, home, address string, out any, args ...string) {
	t.Helper()
	if err := try(t, home, address, out, args...); err != nil {
		t.Fatal(err)
	}
}

// try is call for commands that may fail.
func try(t *testing.T, home, address string, out any, args ...string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	args = append(args, "--output", "json", "--home", home)
	if address == "" {
		args = append(args, "--local")
	} else {
		args = append(args, "--server", address)
	}
	cmd := exec.CommandContext(ctx, program(t), args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("galley %s: %w: %s%s", strings.Join(args, " "), err, stdout, stderr.String())
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(stdout, out); err != nil {
		return fmt.Errorf("galley %s: %w: %s", strings.Join(args, " "), err, stdout)
	}
	return nil
}

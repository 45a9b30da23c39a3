//go:build peers

package docs_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestPeerClient runs the client that the README shows, with a stock
// tritonclient, against a server.
func TestPeerClient(t *testing.T) {
	python := os.Getenv("GALLEY_PEERS_PYTHON")
	if python == "" {
		t.Skip("GALLEY_PEERS_PYTHON names no Python with tritonclient")
	}
	g := build(t)
	address := g.up(t)
	for _, args := range [][]string{
		{"data", "add", "headlines", "--train", "examples/headlines/train.csv"},
		{"train", "examples/jobs/headlines-worse.yaml", "--wait"},
	} {
		if out, err := g.run(t, append(args, "--server", address)...); err != nil {
			t.Fatalf("galley %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	client := func(args ...string) (string, error) {
		args = append([]string{filepath.Join("examples", "clients", "classify_tritonclient.py"), "--url", address}, args...)
		cmd := exec.CommandContext(t.Context(), python, args...)
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := client("headlines", "Central bank holds rates", "央行维持利率不变")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[1], "央行维持利率不变") || lines[2] != "answered by headlines@1" {
		t.Errorf("the client says\n%s", out)
	}
	if out, err := client("headlines", "--version", "7", "Central bank holds rates"); err == nil {
		t.Errorf("a version that is not there answers\n%s", out)
	}
}

// up runs the server until the test ends and returns its gRPC address.
func (g program) up(t *testing.T) string {
	t.Helper()
	cmd := exec.Command(g.binary, "up", "--listen-http", ":0", "--listen-grpc", ":0", "--listen-metrics", ":0", "--home", g.home)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if _, rest, ok := strings.Cut(lines.Text(), "grpc="); ok && strings.HasPrefix(lines.Text(), "ready ") {
				at, _, _ := strings.Cut(rest, " ")
				address <- at
			}
		}
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		<-drained
		if err := cmd.Wait(); err != nil {
			t.Errorf("galley up ends with %v", err)
		}
	})
	select {
	case at := <-address:
		return at
	case <-drained:
		t.Fatal("galley up ended before it was ready")
		return ""
	}
}

//go:build peers

package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	at := g.serve(t)
	address := at.grpc
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
	// The same over HTTP, with tensors as bytes and as JSON.
	for _, more := range [][]string{nil, {"--json"}} {
		cmd := exec.CommandContext(t.Context(), python, append([]string{filepath.Join("examples", "clients", "classify_http.py"), "--url", at.http, "headlines", "Central bank holds rates", "央行维持利率不变"}, more...)...)
		cmd.Dir = root
		if other, err := cmd.CombinedOutput(); err != nil || string(other) != out {
			t.Errorf("%v: %v: over HTTP the client says\n%s\nover gRPC\n%s", more, err, other, out)
		}
	}
	if out, err := client("headlines", "--version", "7", "Central bank holds rates"); err == nil {
		t.Errorf("a version that is not there answers\n%s", out)
	}
}

// TestPeerExtensions asks what Triton's extensions are for, with stock clients:
// tritonclient over both protocols, a parser of Prometheus' format, grpcurl.
func TestPeerExtensions(t *testing.T) {
	python := os.Getenv("GALLEY_PEERS_PYTHON")
	if python == "" {
		t.Skip("GALLEY_PEERS_PYTHON names no Python with tritonclient")
	}
	g := build(t)
	at := g.serve(t)
	for _, args := range [][]string{
		{"data", "add", "headlines", "--train", "examples/headlines/train.csv"},
		{"train", "examples/jobs/headlines-worse.yaml", "--wait"},
	} {
		if out, err := g.run(t, append(args, "--server", at.grpc)...); err != nil {
			t.Fatalf("galley %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	t.Run("tritonclient", func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "extensions.py"), at.grpc, at.http, at.metrics)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("grpcurl", func(t *testing.T) {
		grpcurl := outside(t, "github.com/fullstorydev/grpcurl", "v1.9.3", "github.com/fullstorydev/grpcurl/cmd/grpcurl")
		for _, c := range []struct{ args, want string }{
			{"ADDRESS list", "galley.newsroom.v1.Newsroom"},
			{"ADDRESS describe inference.GRPCInferenceService", "rpc ModelStatistics"},
			{"ADDRESS grpc.health.v1.Health/Check", "SERVING"},
			{"ADDRESS inference.GRPCInferenceService/ServerMetadata", "binary_tensor_data"},
			{`-d {"name":"headlines"} ADDRESS inference.GRPCInferenceService/ModelConfig`, "TYPE_STRING"},
			{`-d {"model":"headlines","texts":["rates","goal"]} ADDRESS galley.newsroom.v1.Newsroom/Classify`, `"model": "headlines@1"`},
			{"ADDRESS galley.control.v1.Control/ListModels", "headlines@1"},
		} {
			args := append([]string{"-plaintext"}, strings.Fields(strings.ReplaceAll(c.args, "ADDRESS", at.grpc))...)
			if out, err := exec.CommandContext(t.Context(), grpcurl, args...).CombinedOutput(); err != nil || !strings.Contains(string(out), c.want) {
				t.Errorf("grpcurl %s: %v\n%s", c.args, err, out)
			}
		}
	})
	t.Run("grpc_health_probe", func(t *testing.T) {
		probe := outside(t, "github.com/grpc-ecosystem/grpc-health-probe", "v0.4.40", "github.com/grpc-ecosystem/grpc-health-probe")
		for _, service := range []string{"", "inference.GRPCInferenceService", "galley.control.v1.Control", "galley.newsroom.v1.Newsroom"} {
			if out, err := exec.CommandContext(t.Context(), probe, "-addr", at.grpc, "-service", service).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", service, err, out)
			}
		}
		if out, err := exec.CommandContext(t.Context(), probe, "-addr", at.grpc, "-service", "nope").CombinedOutput(); err == nil {
			t.Errorf("a service that is not there is healthy\n%s", out)
		}
	})
}

// outside builds a program of another module, or skips the test where that
// cannot be had. `go install` would also ask for the list of its versions,
// which not each proxy has.
func outside(t *testing.T, module, version, pkg string) string {
	t.Helper()
	dir := t.TempDir()
	file := "module outside\n\ngo 1.26\n\nrequire " + module + " " + version + "\n"
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-mod=mod", "-o", path, pkg)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("%s cannot be had here: %s", pkg, out)
	}
	return path
}

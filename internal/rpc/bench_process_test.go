//go:build peers && bench

package rpc

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"

	"galley/internal/processors"
	"galley/registry"
	"galley/serving"
)

// servedAlone is the environment variable by which this test's program is told
// to be a server, and of what: "noop" or "minilm".
const servedAlone = "GALLEY_BENCH_SERVES"

// TestBenchServer is the server of galleyAlone.
func TestBenchServer(t *testing.T) {
	name := os.Getenv(servedAlone)
	if name == "" {
		t.Skip("the other benchmarks start it")
	}
	store := models{names: []string{name}}
	table := serving.NewTable(store, func(_ context.Context, v registry.Version) (*serving.Servable, error) {
		if name == "noop" {
			return serving.NewGraph(v, noop(t)), nil
		}
		c, s := minilm(t)
		return serving.NewTextClassifier(v, c, s)
	})
	defer table.Close()
	metrics := NewMetrics()
	metrics.WatchModels(table)
	server := NewServer(&Inference{Table: table, Store: store, Name: "galley", Metrics: metrics}, controlpb.UnimplementedControlServer{}, quiet())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	processors.Serve()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the benchmark is over
		server.Shutdown(context.Background())
	}()
	fmt.Println("listening on", l.Addr())
	if err := server.Serve(l); err != nil {
		t.Error(err)
	}
}

// galleyAlone serves a model in a process of its own until the test ends.
func galleyAlone(t *testing.T, model string) inferencepb.GRPCInferenceServiceClient {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestBenchServer$", "-test.timeout", "60m")
	cmd.Env = append(os.Environ(), servedAlone+"="+model)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if address, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
			return dial(t, address)
		}
	}
	t.Fatal("the server does not start")
	return nil
}

// dial returns a client of the server at an address.
func dial(t testing.TB, address string) inferencepb.GRPCInferenceServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return inferencepb.NewGRPCInferenceServiceClient(conn)
}

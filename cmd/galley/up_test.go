package main

import (
	"net"
	"strings"
	"testing"

	"galley"
)

func TestLoopback(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:8000": "127.0.0.1:8000", ":0": "127.0.0.1:0", "localhost:1": "localhost:1", "[::1]:2": "[::1]:2", "127.9.9.9:3": "127.9.9.9:3",
	} {
		if got, err := loopback(endpoint{"http", "--listen-http", address}); got != want || err != nil {
			t.Errorf("%s: %s, %v", address, got, err)
		}
	}
	for address, want := range map[string]galley.Code{
		"0.0.0.0:8000": galley.FailedPrecondition, "[::]:8000": galley.FailedPrecondition, "10.0.0.1:1": galley.FailedPrecondition,
		"example.org:1": galley.FailedPrecondition, "localhost.example.org:1": galley.FailedPrecondition,
		"": galley.InvalidArgument, "8000": galley.InvalidArgument, "127.0.0.1": galley.InvalidArgument,
		":http": galley.InvalidArgument, ":65536": galley.InvalidArgument, ":-1": galley.InvalidArgument,
	} {
		if got, err := loopback(endpoint{"http", "--listen-http", address}); galley.CodeOf(err) != want || !strings.Contains(err.Error(), "--listen-http "+address) {
			t.Errorf("%q: %s, %v", address, got, err)
		}
	}
}

// A port in use is an error that names the flag and the port; the other ports
// are free again.
func TestListenAllOrNone(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	first := free.Addr().String()
	free.Close()
	_, err = listenAll(endpoints{http: first, grpc: taken.Addr().String(), metrics: ":0"})
	if galley.CodeOf(err) != galley.Unavailable || !strings.HasPrefix(err.Error(), "--listen-grpc "+taken.Addr().String()+": ") {
		t.Errorf("%v", err)
	}
	again, err := net.Listen("tcp", first)
	if err != nil {
		t.Fatalf("the first port is still held: %v", err)
	}
	again.Close()
}

package main

import (
	"net"
	"strings"
	"testing"

	"galley"
)

func TestResolve(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:8000": "127.0.0.1:8000", ":0": "127.0.0.1:0", "localhost:1": "localhost:1", "[::1]:2": "[::1]:2", "127.9.9.9:3": "127.9.9.9:3",
		"[::ffff:127.0.0.1]:4": "[::ffff:127.0.0.1]:4",
	} {
		if got, local, err := resolve(endpoint{"http", "--listen-http", address}); got != want || !local || err != nil {
			t.Errorf("%s: %s, %v, %v", address, got, local, err)
		}
	}
	for _, address := range []string{"0.0.0.0:8000", "[::]:8000", "10.0.0.1:1", "example.org:1", "localhost.example.org:1", "[::ffff:10.0.0.1]:1"} {
		if _, local, err := resolve(endpoint{"http", "--listen-http", address}); local || err != nil {
			t.Errorf("%s: %v, %v", address, local, err)
		}
	}
	for _, address := range []string{"", "8000", "127.0.0.1", ":http", ":65536", ":-1"} {
		if _, _, err := resolve(endpoint{"http", "--listen-http", address}); galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(err.Error(), "--listen-http "+address) {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// A port that other machines reach needs TLS, and asks for tokens.
func TestGuard(t *testing.T) {
	open := protection{cert: "c", key: "k"}
	outside := endpoints{http: "0.0.0.0:0", grpc: ":0", metrics: "10.0.0.1:0"}
	if asks, err := open.guard(outside); err != nil || asks != (ports{http: true, metrics: true}) {
		t.Errorf("%+v, %v", asks, err)
	}
	if asks, err := open.guard(anyPorts); err != nil || asks.any() {
		t.Errorf("%+v, %v", asks, err)
	}
	if asks, err := (&protection{requireTokens: true}).guard(anyPorts); err != nil || asks != (ports{true, true, true}) {
		t.Errorf("%+v, %v", asks, err)
	}
	for _, at := range []endpoints{outside, {http: ":0", grpc: "0.0.0.0:0", metrics: ":0"}, {http: ":0", grpc: ":0", metrics: "[::]:0"}} {
		if _, err := (&protection{}).guard(at); galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), "--tls-cert") {
			t.Errorf("%+v: %v", at, err)
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
	_, err = (&protection{}).listen(endpoints{http: first, grpc: taken.Addr().String(), metrics: ":0"}, nil)
	if galley.CodeOf(err) != galley.Unavailable || !strings.HasPrefix(err.Error(), "--listen-grpc "+taken.Addr().String()+": ") {
		t.Errorf("%v", err)
	}
	again, err := net.Listen("tcp", first)
	if err != nil {
		t.Fatalf("the first port is still held: %v", err)
	}
	again.Close()
}

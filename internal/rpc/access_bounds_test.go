package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"
)

// listenLocal listens on a free port with a limit of connections.
func listenLocal(t testing.TB, most int) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return LimitConnections(l, most, MaxConnectionsAddress)
}

// closed reports whether the other side closes a connection soon.
func closed(c net.Conn, soon time.Duration) bool {
	c.SetReadDeadline(time.Now().Add(soon))
	_, err := io.Copy(io.Discard, c)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// The connection after the last is closed at once; when one ends, there is
// room again.
func TestConnectionsAreLimited(t *testing.T) {
	l := listenLocal(t, 3)
	server := NewHTTPServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), quiet())
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() {
		server.Close()
		<-served
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	answers := func(c net.Conn) bool {
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		line, err := bufio.NewReader(c).ReadString('\n')
		return err == nil && strings.Contains(line, "200")
	}
	held := []net.Conn{dial(), dial(), dial()}
	for i, c := range held {
		if !answers(c) {
			t.Errorf("connection %d is not served", i+1)
		}
	}
	if !closed(dial(), 5*time.Second) {
		t.Error("the fourth connection is held")
	}
	held[0].Close()
	deadline := time.Now().Add(5 * time.Second)
	for !answers(dial()) {
		if time.Now().After(deadline) {
			t.Fatal("there is no room after one has ended")
		}
	}
}

// No address takes all the connections that there are.
func TestConnectionsOfAnAddressAreLimited(t *testing.T) {
	l := LimitConnections(nil, 5, 2).(*limitedListener)
	for i, tt := range []struct {
		from string
		want bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}, {"b", true}, {"c", true}, {"d", false}} {
		if l.take(tt.from) != tt.want {
			t.Errorf("connection %d from %s", i+1, tt.from)
		}
	}
	l.release("a")
	if !l.take("d") || l.take("a") {
		t.Error("after one has ended")
	}
	for _, from := range []string{"a", "b", "b", "c", "d"} {
		l.release(from)
	}
	if l.total != 0 || len(l.held) != 0 {
		t.Errorf("%d held, %v", l.total, l.held)
	}
}

// A thousand connections that say nothing keep nobody else from being
// answered, and cost little.
func TestThousandIdleConnections(t *testing.T) {
	const idle = 1000
	control := &endless{}
	g := NewServer(inferencepb.UnimplementedGRPCInferenceServiceServer{}, control, quiet())
	h := NewHTTPServer(NewHTTPHandler(g), quiet())
	onGRPC, onHTTP := listenLocal(t, MaxConnections), listenLocal(t, MaxConnections)
	served := make(chan error, 2)
	go func() { served <- g.Serve(onGRPC) }()
	go func() { served <- h.Serve(onHTTP) }()
	defer func() {
		g.grpc.Stop()
		h.Close()
		<-served
		<-served
	}()
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range idle {
		for _, l := range []net.Listener{onGRPC, onHTTP} {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatalf("after %d: %v", len(conns), err)
			}
			conns = append(conns, c)
		}
	}
	client := connectTo(t, onGRPC.Addr().String())
	begun := time.Now()
	if _, err := client.GetJob(t.Context(), &controlpb.JobRequest{Job: "news-1"}); status.Code(err) != codes.Unimplemented {
		t.Errorf("gRPC: %v", err)
	}
	answer, err := http.Get("http://" + onHTTP.Addr().String() + "/v2/health/live")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("answered after %s", took)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := int64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse) / int64(len(conns)); each > 128<<10 {
		t.Errorf("%d bytes for each idle connection", each)
	}
}

func connectTo(t testing.TB, address string) controlpb.ControlClient {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return controlpb.NewControlClient(conn)
}

// An endless control API writes a log that does not end.
type endless struct {
	controlpb.UnimplementedControlServer
	sent  atomic.Int64
	ended chan error
}

func (e *endless) JobLogs(_ *controlpb.JobLogsRequest, stream grpc.ServerStreamingServer[controlpb.LogLine]) error {
	line := &controlpb.LogLine{Text: strings.Repeat("x", 1000)}
	for {
		if err := stream.Send(line); err != nil {
			e.ended <- err
			return err
		}
		e.sent.Add(int64(len(line.Text)))
	}
}

// A reader that does not read makes the server hold little, over gRPC and
// HTTP, and when it goes its call ends.
func TestSlowReader(t *testing.T) {
	control := &endless{ended: make(chan error, 2)}
	g := NewServer(inferencepb.UnimplementedGRPCInferenceServiceServer{}, control, quiet())
	l := listenLocal(t, 10)
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	defer func() {
		g.grpc.Stop()
		<-served
	}()
	settles := func(most int64) {
		t.Helper()
		waitFor(t, "a line of the log", func() bool { return control.sent.Load() > 0 })
		last := int64(0)
		for now := control.sent.Load(); now != last; now = control.sent.Load() {
			last = now
			time.Sleep(200 * time.Millisecond)
		}
		if last > most {
			t.Errorf("the server wrote %d bytes for a reader that does not read", last)
		}
		control.sent.Store(0)
	}
	ctx, gone := context.WithCancel(t.Context())
	if _, err := connectTo(t, l.Addr().String()).JobLogs(ctx, &controlpb.JobLogsRequest{Job: "news-1"}); err != nil {
		t.Fatal(err)
	}
	settles(1 << 20)
	gone()
	select {
	case <-control.ended:
	case <-time.After(5 * time.Second):
		t.Error("the call of a reader that has gone goes on")
	}

	h := httptest.NewServer(NewHTTPHandler(g))
	defer h.Close()
	c, err := net.Dial("tcp", strings.TrimPrefix(h.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "GET /v1/jobs/x/logs HTTP/1.1\r\nHost: localhost\r\n\r\n")
	settles(64 << 20) // what the machine's sockets hold
	c.Close()
	select {
	case <-control.ended:
	case <-time.After(5 * time.Second):
		t.Error("the request of a reader that has gone goes on")
	}
}

// Who sends a request's head byte by byte, or more head than there may be, is
// let go.
func TestSlowAndLargeHeads(t *testing.T) {
	handler := NewHTTPHandler(NewServer(inferencepb.UnimplementedGRPCInferenceServiceServer{}, &endless{}, quiet()))
	server := NewHTTPServer(handler, quiet())
	for what, d := range map[string]time.Duration{
		"ReadHeaderTimeout": server.ReadHeaderTimeout, "ReadTimeout": server.ReadTimeout, "WriteTimeout": server.WriteTimeout, "IdleTimeout": server.IdleTimeout,
	} {
		if d <= 0 || d > 10*time.Minute {
			t.Errorf("%s is %s", what, d)
		}
	}
	server.ReadHeaderTimeout = 300 * time.Millisecond // the same, sooner
	l := listenLocal(t, 10)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() {
		server.Close()
		<-served
	}()
	slow, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	begun := time.Now()
	for _, b := range []byte("GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n") {
		if _, err := slow.Write([]byte{b}); err != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !closed(slow, 5*time.Second) {
		t.Errorf("a slow head is waited for after %s", time.Since(begun))
	}

	patient := httptest.NewUnstartedServer(nil)
	patient.Config = NewHTTPServer(handler, quiet())
	patient.Start()
	defer patient.Close()
	r, err := http.NewRequest("GET", patient.URL+"/v2/health/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Large", strings.Repeat("x", 2*maxHeaders))
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, answer.Body)
	answer.Body.Close()
	if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d for a large head", answer.StatusCode)
	}
}

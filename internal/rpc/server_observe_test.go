package rpc

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	grpcmd "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"

	"galley/internal/telemetry"
)

// dialServer serves s in memory.
func dialServer(t *testing.T, s *Server) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		s.Shutdown(context.Background())
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return conn
}

// A request that is traced has spans of its wait and its run, over both
// transports, below the span of its caller.
func TestTraces(t *testing.T) {
	var mu sync.Mutex
	var sent bytes.Buffer
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.Copy(&sent, r.Body) // what is missing is missed below
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	env := func(name string) (string, bool) {
		if name != "OTEL_EXPORTER_OTLP_ENDPOINT" {
			return "", false
		}
		return collector.URL, true
	}
	for name, ask := range map[string]func(*Server) error{
		"gRPC": func(s *Server) error {
			ctx := grpcmd.AppendToOutgoingContext(t.Context(), "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
			_, err := inferencepb.NewGRPCInferenceServiceClient(dialServer(t, s)).ModelInfer(ctx, asked("sport"))
			return err
		},
		"HTTP": func(s *Server) error {
			r := httptest.NewRequest("POST", "http://localhost/v2/models/news/infer", strings.NewReader(`{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":["sport"]}]}`))
			r.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
			NewHTTPHandler(s).ServeHTTP(httptest.NewRecorder(), r)
			return nil
		},
	} {
		tracer, err := telemetry.NewTracer(t.Context(), env, "test", quiet())
		if err != nil {
			t.Fatal(err)
		}
		if err := ask(NewServer(newInference(t), controlpb.UnimplementedControlServer{}, quiet(), WithTracer(tracer))); err != nil {
			t.Fatal(err)
		}
		if err := tracer.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		for _, want := range []string{"inference.GRPCInferenceService/ModelInfer", "queue", "run", "galley.model", "\x0a\xf7\x65\x19\x16\xcd\x43\xdd\x84\x48\xeb\x21\x1c\x80\x31\x9c"} {
			if !strings.Contains(sent.String(), want) {
				t.Errorf("%s: no %q was sent", name, want)
			}
		}
		sent.Reset()
		mu.Unlock()
	}
}

// A request keeps its client's name in answers and logs.
func TestRequestIDs(t *testing.T) {
	var lines lockedBuffer
	log, err := telemetry.NewLogger(&lines, "json", slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(newInference(t), controlpb.UnimplementedControlServer{}, log)
	r := httptest.NewRequest("POST", "http://localhost/v2/models/fails/infer", strings.NewReader(`{"inputs":[{"name":"x","datatype":"BOOL","shape":[0],"data":[]}]}`))
	r.Header.Set("X-Request-Id", "desk-7")
	w := httptest.NewRecorder()
	NewHTTPHandler(s).ServeHTTP(w, r)
	if w.Header().Get("X-Request-Id") != "desk-7" || !strings.Contains(lines.String(), `"request_id":"desk-7"`) {
		t.Errorf("%v %s", w.Header(), lines.String())
	}
	w = httptest.NewRecorder()
	NewHTTPHandler(s).ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/v2", nil))
	if len(w.Header().Get("X-Request-Id")) < 20 {
		t.Errorf("%v", w.Header())
	}
	var header grpcmd.MD
	ctx := grpcmd.AppendToOutgoingContext(t.Context(), requestIDHeader, "desk 8")
	client := inferencepb.NewGRPCInferenceServiceClient(dialServer(t, s))
	_, err = client.ModelInfer(ctx, &inferencepb.ModelInferRequest{ModelName: "fails", Inputs: []*input{{Name: "x", Datatype: "BOOL", Shape: []int64{0}}}}, grpc.Header(&header))
	if id := header.Get(requestIDHeader); err == nil || len(id) != 1 || id[0] == "desk 8" || !strings.Contains(lines.String(), `"request_id":"`+id[0]+`"`) {
		t.Errorf("%v %v %s", err, header, lines.String())
	}
}

// A server that drains is not ready for more, and answers what comes.
func TestDrainAnswersOnAndIsNotReady(t *testing.T) {
	inference := newInference(t)
	s := NewServer(inference, controlpb.UnimplementedControlServer{}, quiet())
	inference.Ready = s.Ready
	conn, handler := dialServer(t, s), NewHTTPHandler(s)
	check := func(want bool) {
		t.Helper()
		a, err := inferencepb.NewGRPCInferenceServiceClient(conn).ServerReady(t.Context(), &inferencepb.ServerReadyRequest{})
		if err != nil || a.GetReady() != want {
			t.Errorf("%v %v", a, err)
		}
		h, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil || (h.GetStatus() == healthpb.HealthCheckResponse_SERVING) != want {
			t.Errorf("%v %v", h, err)
		}
		w := httptest.NewRecorder()
		if handler.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/v2/health/ready", nil)); (w.Code == 200) != want {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	check(true)
	s.Drain()
	check(false)
	if _, err := inferencepb.NewGRPCInferenceServiceClient(conn).ModelInfer(t.Context(), asked("sport")); err != nil {
		t.Error(err)
	}
	w := httptest.NewRecorder()
	if handler.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/v2/health/live", nil)); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A flood sends lines until its reader is given up.
type flood struct {
	controlpb.UnimplementedControlServer
	ended chan error
}

func (f flood) JobLogs(_ *controlpb.JobLogsRequest, stream grpc.ServerStreamingServer[controlpb.LogLine]) error {
	line := &controlpb.LogLine{Text: strings.Repeat("a", 1<<16)}
	for {
		if err := stream.Send(line); err != nil {
			f.ended <- err
			return err
		}
	}
}

// Who asks and does not read, or begins to send and stops, is given up; others
// are answered meanwhile.
func TestHTTPSlowReaderAndWriter(t *testing.T) {
	f := flood{ended: make(chan error, 1)}
	s := NewServer(newInference(t), f, quiet())
	s.gateway.stall = 500 * time.Millisecond
	server := httptest.NewUnstartedServer(nil)
	server.Config = NewHTTPServer(NewHTTPHandler(s), quiet())
	server.Config.ReadTimeout = time.Second // a busy machine's requests come in time
	server.Start()
	defer server.Close()
	dial := func(text string) net.Conn {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	reader := dial("GET /v1/jobs/1/logs HTTP/1.1\r\nHost: localhost\r\n\r\n")
	defer reader.Close()
	if status, _ := call(t, server, "GET", "/v2/health/live", ""); status != 200 {
		t.Errorf("another is answered %d", status)
	}
	select {
	case <-f.ended:
	case <-time.After(5 * time.Second):
		t.Error("a reader that does not read is waited for")
	}
	for name, text := range map[string]string{
		"tensors": "POST /v2/models/news/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
		"upload":  "POST /v1/data HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nne",
	} {
		writer := dial(text)
		writer.SetReadDeadline(time.Now().Add(5 * time.Second))
		answer, err := io.ReadAll(writer)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") || !strings.Contains(string(answer), "the body does not come") {
			t.Errorf("%s: %q %v", name, answer, err)
		}
		writer.Close()
	}
}

package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"galley"
)

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(&out, "json", slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	ctx, id := WithRequestID(t.Context(), "desk-7")
	log.With("a", 1).WithGroup("g").InfoContext(ctx, "it happened", "b", 2)
	log.Debug("not this")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line["msg"] != "it happened" || line["a"] != 1.0 || line["g"].(map[string]any)["request_id"] != id {
		t.Errorf("%s %v", out.Bytes(), err)
	}
	if _, err := NewLogger(&out, "xml", slog.LevelInfo); galley.CodeOf(err) != galley.InvalidArgument || err.Error() != "--log-format xml: is not a format of logs — write text or json" {
		t.Error(err)
	}
	for _, format := range Formats {
		if _, err := NewLogger(&out, format, slog.LevelInfo); err != nil {
			t.Error(err)
		}
	}
}

func TestRequestID(t *testing.T) {
	if id := RequestID(t.Context()); id != "" {
		t.Errorf("a context without a request has %q", id)
	}
	for given, kept := range map[string]bool{
		"7b/a.b_c:d+e=f@g-h": true, "": false, "a b": false, "a\nb": false, `a"b`: false, "日": false, "\xff": false,
		strings.Repeat("a", maxRequestID): true, strings.Repeat("a", maxRequestID+1): false,
	} {
		ctx, id := WithRequestID(t.Context(), given)
		if RequestID(ctx) != id || id == "" || (id == given) != kept {
			t.Errorf("%q became %q", given, id)
		}
	}
}

// spans collects the spans of a tracer that traces all or, by the default, few.
func spans(t *testing.T) (*Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	kept := tracetest.NewInMemoryExporter()
	tracer, err := newTracer(t.Context(), sdktrace.NewSimpleSpanProcessor(kept), "r1", false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tracer.Close(context.Background()) })
	return tracer, kept
}

// A caller that traces gets spans below its own; one that decided not to gets
// none.
func TestServerFollowsItsCaller(t *testing.T) {
	tracer, kept := spans(t)
	for flags, want := range map[string]int{"01": 3, "00": 0} {
		kept.Reset()
		ctx, request := tracer.Server(t.Context(), "ModelInfer", func(h string) string {
			return map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-" + flags}[h]
		})
		if Traced(ctx) != (want > 0) {
			t.Errorf("flags %s: traced is %t", flags, Traced(ctx))
		}
		Part(ctx, "queue", time.Unix(1, 0), time.Second)
		request.Set("model", "news@1")
		Part(ctx, "run", time.Unix(2, 0), time.Second)
		request.End(galley.Errorf(galley.Unavailable, "news", "no"))
		got := kept.GetSpans()
		if len(got) != want {
			t.Fatalf("flags %s: %d spans", flags, len(got))
		}
		if want == 0 {
			continue
		}
		root := got[2]
		if root.Parent.SpanID().String() != "b7ad6b7169203331" || root.SpanContext.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || root.Status.Description != "UNAVAILABLE" {
			t.Errorf("%+v", root)
		}
		if got[0].Name != "queue" || got[0].EndTime.Sub(got[0].StartTime) != time.Second || got[0].Parent.SpanID() != root.SpanContext.SpanID() || got[1].Parent.SpanID() != root.SpanContext.SpanID() {
			t.Errorf("%+v", got[:2])
		}
	}
}

func TestNoTracer(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	none := func(string) (string, bool) { return "", false }
	tracer, err := NewTracer(t.Context(), none, "r1", log)
	if tracer != nil || err != nil {
		t.Fatalf("%v %v", tracer, err)
	}
	ctx, span := tracer.Server(t.Context(), "a", nil)
	Part(ctx, "b", time.Now(), 0)
	span.Set("a", "b")
	span.End(errors.New("x"))
	if err := tracer.Close(t.Context()); err != nil || Traced(ctx) {
		t.Error(err)
	}
	of := func(settings map[string]string) func(string) (string, bool) {
		return func(name string) (string, bool) { v, ok := settings[name]; return v, ok }
	}
	if tracer, err := NewTracer(t.Context(), of(map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_SDK_DISABLED": "true"}), "r1", log); tracer != nil || err != nil {
		t.Errorf("%v %v", tracer, err)
	}
	if _, err := NewTracer(t.Context(), of(map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}), "r1", log); galley.CodeOf(err) != galley.InvalidArgument {
		t.Error(err)
	}
}

// Spans arrive at the collector that the environment names.
func TestSpansAreSent(t *testing.T) {
	arrived := make(chan int, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/v1/traces" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		arrived <- len(body)
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_TRACES_SAMPLER", "always_on")
	settings := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_TRACES_SAMPLER": "always_on"}
	tracer, err := NewTracer(t.Context(), func(name string) (string, bool) { v, ok := settings[name]; return v, ok }, "r1", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracer.Server(t.Context(), "a", func(string) string { return "" })
	span.End(nil)
	if err := tracer.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case n := <-arrived:
		if n == 0 {
			t.Error("nothing was sent")
		}
	default:
		t.Error("no span arrived")
	}
}

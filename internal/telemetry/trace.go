package telemetry

import (
	"context"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"galley"
)

// sampled is the share of requests that are traced if the environment says
// nothing and the caller has not decided.
const sampled = 0.01

// A Tracer makes spans. A nil *Tracer makes none, and costs nothing.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// NewTracer sends spans to the collector that the standard variables of
// OpenTelemetry name, over HTTP; nil if they name none. OTEL_TRACES_SAMPLER
// and its argument choose what is traced; without them, what the caller
// traces, and one in a hundred of the rest.
func NewTracer(ctx context.Context, env func(string) (string, bool), revision string, log *slog.Logger) (*Tracer, error) {
	value := func(name string) string { v, _ := env(name); return v }
	if value("OTEL_SDK_DISABLED") == "true" || value("OTEL_TRACES_EXPORTER") == "none" ||
		value("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && value("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
		return nil, nil
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"} {
		if p := value(name); p != "" && p != "http/protobuf" {
			return nil, galley.Errorf(galley.InvalidArgument, name, "%s is not spoken here", p).WithRemedy("set http/protobuf, and the collector's HTTP port (4318)")
		}
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, galley.Errorf(galley.InvalidArgument, "OTEL_EXPORTER_OTLP_ENDPOINT", "spans cannot be sent there: %w", err)
	}
	// A collector that is away costs a line in the log, not a request.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces are not sent", "error", err) }))
	return newTracer(ctx, sdktrace.NewBatchSpanProcessor(exporter), revision, value("OTEL_TRACES_SAMPLER") != "")
}

// newTracer makes a tracer whose spans go to p.
func newTracer(ctx context.Context, p sdktrace.SpanProcessor, revision string, envSamples bool) (*Tracer, error) {
	r, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "galley"), attribute.String("service.version", revision)),
		resource.WithFromEnv(), // goes before what is above
	)
	if err != nil {
		return nil, galley.Errorf(galley.InvalidArgument, "OTEL_RESOURCE_ATTRIBUTES", "cannot be read: %w", err)
	}
	options := []sdktrace.TracerProviderOption{sdktrace.WithSpanProcessor(p), sdktrace.WithResource(r)}
	if !envSamples {
		options = append(options, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(sampled))))
	}
	provider := sdktrace.NewTracerProvider(options...)
	return &Tracer{provider, provider.Tracer("galley")}, nil
}

// Close sends what has not been sent, until ctx ends.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// Server begins the span of a request. get reads the request's headers, which
// may name the span of its caller in the W3C's format.
func (t *Tracer) Server(ctx context.Context, name string, get func(header string) string) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	ctx = propagation.TraceContext{}.Extract(ctx, carrier(get))
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer))
	return ctx, Span{span}
}

// A Span is the time of a request. The zero value is of no trace.
type Span struct{ span trace.Span }

// Part adds a part of the request that ctx belongs to, if that is traced,
// which has ended already.
func Part(ctx context.Context, name string, began time.Time, took time.Duration) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return
	}
	_, span := parent.TracerProvider().Tracer("galley").Start(ctx, name, trace.WithTimestamp(began))
	span.End(trace.WithTimestamp(began.Add(took)))
}

// Traced reports whether the request that ctx belongs to is traced.
func Traced(ctx context.Context) bool { return trace.SpanFromContext(ctx).IsRecording() }

// Set notes a property of the request.
func (s Span) Set(name, value string) {
	if s.span != nil {
		s.span.SetAttributes(attribute.String(name, value))
	}
}

// End ends the request, with the error that it ended in, if any.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		s.span.SetStatus(codes.Error, string(galley.CodeOf(err)))
	}
	s.span.End()
}

// A carrier reads the headers of a request for the propagator.
type carrier func(string) string

// Get implements propagation.TextMapCarrier.
func (c carrier) Get(key string) string { return c(key) }

// Set implements propagation.TextMapCarrier.
func (carrier) Set(string, string) {}

// Keys implements propagation.TextMapCarrier.
func (carrier) Keys() []string { return []string{"traceparent", "tracestate"} }

package telemetry

import (
	"context"
	"io"
	"log/slog"

	"go.opentelemetry.io/otel/trace"

	"galley"
)

// Formats are those of logs, the default first.
var Formats = []string{"text", "json"}

// NewLogger writes records in one of Formats, those of level and above. A
// record that is logged with a request's context names the request and its
// trace.
func NewLogger(w io.Writer, format string, level slog.Level) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: level}
	switch format {
	case "text":
		return slog.New(requestHandler{slog.NewTextHandler(w, options)}), nil
	case "json":
		return slog.New(requestHandler{slog.NewJSONHandler(w, options)}), nil
	default:
		return nil, galley.Errorf(galley.InvalidArgument, "--log-format "+format, "is not a format of logs").WithRemedy("write text or json")
	}
}

// A requestHandler adds the request's names to its records.
type requestHandler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h requestHandler) Handle(ctx context.Context, r slog.Record) error {
	if id := RequestID(ctx); id != "" {
		r.AddAttrs(slog.String("request_id", id))
	}
	if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h requestHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h requestHandler) WithGroup(name string) slog.Handler {
	return requestHandler{h.Handler.WithGroup(name)}
}

package rpc

import (
	"context"
	"log/slog"

	"google.golang.org/grpc"
	grpcmd "google.golang.org/grpc/metadata"

	"galley/internal/telemetry"
	"galley/serving"
)

// requestIDHeader names a request; what the client sends comes back.
const requestIDHeader = "x-request-id"

// WithTracer traces requests with t, which may be nil.
func WithTracer(t *telemetry.Tracer) ServerOption {
	return func(s *Server) { s.tracer = t }
}

// unaryGuard is the outermost of a call: it names and traces the request,
// turns a panic of a handler into an Internal error, and logs what failed for
// reasons of the server.
func unaryGuard(log *slog.Logger, tracer *telemetry.Tracer) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (response any, err error) {
		ctx = named(ctx)
		if tracer != nil {
			var end func(error)
			ctx, end = observed(ctx, tracer, request, info.FullMethod)
			defer func() { end(err) }()
		}
		defer func() { err = finish(ctx, log, info.FullMethod, recover(), err) }()
		return handler(ctx, request)
	}
}

// observed begins the span of a call. Its end adds where the time of inference
// went.
func observed(ctx context.Context, tracer *telemetry.Tracer, request any, method string) (context.Context, func(error)) {
	ctx, span := tracer.Server(ctx, method[1:], header(ctx))
	if !telemetry.Traced(ctx) {
		return ctx, span.End
	}
	if r, ok := request.(interface{ GetModelName() string }); ok {
		span.Set("galley.model", utf8Text(r.GetModelName()))
	}
	times := new(serving.Times)
	ctx = serving.WithTimes(ctx, times)
	return ctx, func(err error) {
		if !times.Began.IsZero() {
			telemetry.Part(ctx, "queue", times.Began, times.Queue)
			telemetry.Part(ctx, "run", times.Began.Add(times.Queue), times.Input+times.Run+times.Output)
		}
		span.End(traced(err))
	}
}

// streamGuard does the same for streams.
func streamGuard(log *slog.Logger, tracer *telemetry.Tracer) grpc.StreamServerInterceptor {
	return func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
		ctx := named(stream.Context())
		ctx, span := tracer.Server(ctx, info.FullMethod[1:], header(ctx))
		defer func() {
			err = finish(ctx, log, info.FullMethod, recover(), err)
			span.End(traced(err))
		}()
		return handler(server, &enteredStream{stream, ctx})
	}
}

// named gives a request the name that its client sent. Over HTTP it has one
// already; over gRPC who sends none gets none.
func named(ctx context.Context) context.Context {
	if telemetry.RequestID(ctx) != "" {
		return ctx
	}
	sent := grpcmd.ValueFromIncomingContext(ctx, requestIDHeader)
	if len(sent) == 0 {
		return ctx
	}
	ctx, id := telemetry.WithRequestID(ctx, sent[0])
	// It fails for a stream that has begun, which this one has not.
	_ = grpc.SetHeader(ctx, grpcmd.Pairs(requestIDHeader, id))
	return ctx
}

// header reads a request's metadata.
func header(ctx context.Context) func(string) string {
	return func(name string) string {
		if values := grpcmd.ValueFromIncomingContext(ctx, name); len(values) > 0 {
			return values[0]
		}
		return ""
	}
}

// traced is an error with the code that its client sees.
func traced(err error) error {
	if err == nil {
		return nil
	}
	return FromStatus(err)
}

// Package rpc is galley's surface: the Open Inference Protocol for
// applications and the control API for engineers, each over gRPC and HTTP,
// health and reflection. Wire types stop here.
package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress their requests
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"

	"galley/internal/telemetry"
)

// Bounds of a connection.
const (
	maxMessage = 64 << 20
	maxStreams = 1024
	maxHeaders = 64 << 10
)

// streamWorkers are goroutines kept for requests, whose stacks need not grow
// anew each time: a twelfth of a small request's processor time. More requests
// than that get goroutines of their own.
const streamWorkers = 16

// A Server serves all APIs over gRPC, and has what HTTP needs to call them.
type Server struct {
	grpc      *grpc.Server
	health    *health.Server
	gateway   *gateway
	inference inferencepb.GRPCInferenceServiceServer
	log       *slog.Logger
	tracer    *telemetry.Tracer
	draining  atomic.Bool

	grpcEntrance, httpEntrance *Entrance
}

// A ServerOption changes what NewServer makes.
type ServerOption func(*Server)

// WithEntrances sets the ways in of the two ports. Without, everyone is let in
// as the local caller, and no token is known.
func WithEntrances(grpc, http *Entrance) ServerOption {
	return func(s *Server) { s.grpcEntrance, s.httpEntrance = grpc, http }
}

// NewServer makes a server of the two services, to which more can be added.
func NewServer(inference inferencepb.GRPCInferenceServiceServer, control controlpb.ControlServer, log *slog.Logger, options ...ServerOption) *Server {
	open := NewOpenAccess(log).Entrance(false)
	s := &Server{health: health.NewServer(), inference: inference, log: log, grpcEntrance: open, httpEntrance: open}
	for _, o := range options {
		o(s)
	}
	// Calls over HTTP pass these, too.
	unary := chainUnary(unaryGuard(log, s.tracer), s.grpcEntrance.unary)
	stream := chainStream(streamGuard(log, s.tracer), s.grpcEntrance.stream)
	s.grpc = grpc.NewServer(
		grpc.NumStreamWorkers(streamWorkers),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 15 * time.Minute, Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.InTapHandle(s.grpcEntrance.tap),
		grpc.UnaryInterceptor(unary),
		grpc.StreamInterceptor(stream),
	)
	s.gateway = &gateway{grpc: s.grpc, unary: unary, stream: stream, stall: stallTime}
	inferencepb.RegisterGRPCInferenceServiceServer(s, inference)
	controlpb.RegisterControlServer(s, control)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	return s
}

// RegisterService adds a service, before Serve and before a handler of HTTP is
// made: through the gateway, which gives annotated methods their REST routes.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, service any) {
	s.gateway.RegisterService(desc, service)
	s.health.SetServingStatus(desc.ServiceName, healthpb.HealthCheckResponse_SERVING)
}

// Serve answers on l until Shutdown.
func (s *Server) Serve(l net.Listener) error { return s.grpc.Serve(l) }

// Ready reports whether more requests are welcome: until Drain.
func (s *Server) Ready() bool { return !s.draining.Load() }

// Drain tells who asks for the server's health that it is going away, so that
// requests are sent elsewhere. Those that come are answered all the same.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.health.Shutdown()
}

// Shutdown refuses new requests and waits for those under way, until ctx
// ends; then it cuts them off.
func (s *Server) Shutdown(ctx context.Context) {
	s.Drain()
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
}

// finish turns a panic into an error, and logs what the server is to blame for.
func finish(ctx context.Context, log *slog.Logger, method string, panicked any, err error) error {
	if panicked != nil {
		log.ErrorContext(ctx, "handler panicked", "method", method, "panic", fmt.Sprint(panicked), "stack", string(debug.Stack()))
		return status.Error(codes.Internal, "internal error; the server's log has the details")
	}
	switch status.Code(err) {
	case codes.Internal, codes.Unknown, codes.DataLoss:
		log.ErrorContext(ctx, "request failed", "method", method, "error", err)
	}
	return err
}

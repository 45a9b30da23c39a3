package rpc

import (
	"context"
	"net"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcmd "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"galley/internal/auth"
)

// unary lets a call in whose caller may make it.
func (e *Entrance) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, err := e.enter(ctx, info.FullMethod)
	if err == nil {
		err = forced(ctx, request, info.FullMethod)
	}
	if err == nil {
		err = checkSubject(request)
	}
	if err == nil {
		var answer any
		if answer, err = handler(ctx, request); err == nil {
			return answer, nil
		}
	}
	e.noteRefusal(ctx, info.FullMethod, err)
	return nil, statusOf(err)
}

// stream does the same for streams.
func (e *Entrance) stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, err := e.enter(stream.Context(), info.FullMethod)
	if err == nil {
		err = handler(service, e.entered(ctx, stream, info))
	}
	if err != nil {
		e.noteRefusal(ctx, info.FullMethod, err)
	}
	return statusOf(err)
}

// An enteredStream is a stream whose context has its caller, and whose requests
// say what they are about.
type enteredStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *enteredStream) Context() context.Context { return s.ctx }

func (s *enteredStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return checkSubject(m)
}

// entered gives a stream its caller's context, and ends it at the next message
// once the caller's token is dead: it may live as long as the job it follows.
// One answer to what was sent in time is still given.
func (e *Entrance) entered(ctx context.Context, stream grpc.ServerStream, info *grpc.StreamServerInfo) grpc.ServerStream {
	s := enteredStream{stream, ctx}
	caller, _ := auth.CallerOf(ctx)
	if caller.Token == "" {
		return &s
	}
	return &tokenStream{s, info.IsServerStream, func() error { return e.tokens.Check(caller.Token) }}
}

// A tokenStream is a stream on a token, which each message asks for.
type tokenStream struct {
	enteredStream
	many  bool // answers
	check func() error
}

func (s *tokenStream) SendMsg(m any) error {
	if s.many {
		if err := s.check(); err != nil {
			return err
		}
	}
	return s.enteredStream.SendMsg(m)
}

func (s *tokenStream) RecvMsg(m any) error {
	if err := s.enteredStream.RecvMsg(m); err != nil {
		return err
	}
	return s.check()
}

// enter admits the caller of a method and checks that it may call it.
func (e *Entrance) enter(ctx context.Context, method string) (context.Context, error) {
	p, ok := auth.OfMethod(method)
	if !ok {
		return ctx, unlisted(method)
	}
	// A call that came in over HTTP has passed that port's entrance.
	if _, ok := auth.CallerOf(ctx); !ok {
		var err error
		if ctx, err = e.admit(ctx, p, grpcmd.ValueFromIncomingContext(ctx, "authorization"), peerAddress(ctx)); err != nil {
			return ctx, err
		}
	}
	return ctx, authorize(ctx, p, method)
}

// forced holds a request to pass a gate by force to those who may.
func forced(ctx context.Context, request any, method string) error {
	if r, ok := request.(interface{ GetForce() bool }); ok && r.GetForce() {
		return authorize(ctx, auth.Force, method+" by force")
	}
	return nil
}

// peerAddress is the caller's HOST:PORT; empty for a command on the home,
// which calls from this process.
func peerAddress(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil || p.Addr.Network() == "bufconn" {
		return ""
	}
	if tcp, ok := p.Addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().String() // as String says it, sooner
	}
	return p.Addr.String()
}

// Methods lists the full names of all methods that are served, in order.
func (s *Server) Methods() []string {
	var names []string
	for service, info := range s.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			names = append(names, "/"+service+"/"+m.Name)
		}
	}
	slices.Sort(names)
	return names
}

// tap refuses a call of an address that has failed too often before its
// message is read: the message may be large, and an interceptor sees it whole.
func (e *Entrance) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	p, ok := auth.OfMethod(info.FullMethodName)
	authorization := info.Header.Get("authorization")
	if !ok || p == auth.Open || len(authorization) == 0 && !e.required {
		return ctx, nil
	}
	if _, err := e.authenticate(authorization); err == nil {
		return ctx, nil
	}
	if address := host(peerAddress(ctx)); e.failures.Spent(address, e.tokens.Now()) {
		e.counts.limited.Add(1)
		return ctx, status.Error(codes.ResourceExhausted, "token: too many attempts from "+address+" failed")
	}
	return ctx, nil
}

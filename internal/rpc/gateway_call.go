package rpc

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	grpcmd "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
)

// forwarded are the headers that a method sees as metadata, as it would over
// gRPC.
var forwarded = []string{"Authorization", "Traceparent", "Tracestate", "User-Agent"}

// callContext is the context of a request over HTTP as a method gets it over
// gRPC: with the caller's address, its TLS state and metadata.
func callContext(w http.ResponseWriter, r *http.Request, method string) (context.Context, *transport) {
	ctx := r.Context()
	md := grpcmd.MD{}
	for _, name := range forwarded {
		if values := r.Header.Values(name); len(values) > 0 {
			md.Append(strings.ToLower(name), values...)
		}
	}
	ctx = grpcmd.NewIncomingContext(ctx, md)
	p := &peer.Peer{}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		p.Addr = net.TCPAddrFromAddrPort(at)
	}
	if r.TLS != nil {
		p.AuthInfo = credentials.TLSInfo{
			State:          *r.TLS,
			CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		}
	}
	t := &transport{method: method}
	ctx = peer.NewContext(ctx, p)
	return grpc.NewContextWithServerTransportStream(ctx, t), t
}

// through calls f as a call of a method over gRPC would be: with the
// interceptors, and the context that they expect.
func through[Q, A any](g *gateway, r *http.Request, method string, service any, request Q, f func(context.Context, Q) (A, error)) (answer A, err error) {
	ctx, _ := callContext(nil, r, method)
	out, err := g.unary(ctx, request, &grpc.UnaryServerInfo{Server: service, FullMethod: method}, func(ctx context.Context, request any) (any, error) {
		return f(ctx, request.(Q))
	})
	if err != nil {
		return answer, err
	}
	return out.(A), nil
}

// A transport keeps the header that a method sends.
type transport struct {
	method string
	mu     sync.Mutex
	header grpcmd.MD
}

func (t *transport) Method() string { return t.method }

func (t *transport) SetHeader(md grpcmd.MD) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.header = grpcmd.Join(t.header, md)
	return nil
}

func (t *transport) SendHeader(md grpcmd.MD) error { return t.SetHeader(md) }
func (t *transport) SetTrailer(grpcmd.MD) error    { return nil }

// copyHeader gives HTTP the header of the method's that HTTP knows.
func (t *transport) copyHeader(w http.ResponseWriter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range []string{"Retry-After", "Www-Authenticate"} {
		if values := t.header.Get(name); len(values) > 0 {
			w.Header().Set(name, values[0])
		}
	}
}

// A localStream is a stream between this process and itself.
type localStream struct {
	ctx  context.Context
	next func() (proto.Message, error) // what the client sends, then io.EOF
	send func(proto.Message) error     // to the client
}

func (s *localStream) Context() context.Context     { return s.ctx }
func (s *localStream) SetHeader(md grpcmd.MD) error { return grpc.SetHeader(s.ctx, md) }
func (s *localStream) SendHeader(grpcmd.MD) error   { return nil }
func (s *localStream) SetTrailer(grpcmd.MD)         {}
func (s *localStream) SendMsg(m any) error          { return s.send(m.(proto.Message)) }

func (s *localStream) RecvMsg(m any) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	message, err := s.next()
	if err != nil {
		return err
	}
	into := m.(proto.Message)
	proto.Reset(into)
	proto.Merge(into, message)
	return nil
}

// once is a client that sends one message.
func once(m proto.Message) func() (proto.Message, error) {
	sent := false
	return func() (proto.Message, error) {
		if sent {
			return nil, io.EOF
		}
		sent = true
		return m, nil
	}
}

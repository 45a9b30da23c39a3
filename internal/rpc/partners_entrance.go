package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/tap"

	federationpb "galley/api/federation/v1"

	"galley"
)

type partnerKey struct{}

// partnerOf is the partner that calls, as the entrance found out.
func partnerOf(ctx context.Context) string {
	name, _ := ctx.Value(partnerKey{}).(string)
	return name
}

// enter finds out which partner calls, by the certificate of its connection.
// check does so again.
func (s *PartnersServer) enter(ctx context.Context) (_ context.Context, check func() error, err error) {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		p = &peer.Peer{}
	}
	info, ok := p.AuthInfo.(partnerInfo)
	if !ok {
		return ctx, nil, galley.Errorf(galley.Unauthenticated, "certificate", "the connection has none").
			WithRemedy("connect with the certificate that galley partner keygen wrote")
	}
	name, err := s.of(ctx, info.der)
	if err != nil {
		return ctx, nil, err
	}
	ctx = galley.WithOrigin(ctx, galley.Origin{Address: peerAddress(ctx)})
	check = func() error {
		_, err := s.of(ctx, info.der)
		return err
	}
	return context.WithValue(ctx, partnerKey{}, name), check, nil
}

// unary lets a partner's call in.
func (s *PartnersServer) unary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, _, err := s.enter(ctx)
	if err != nil {
		return nil, statusOf(err)
	}
	answer, err := handler(ctx, request)
	return answer, statusOf(err)
}

// stream does the same for streams, and ends one at the next message once its
// partner may no longer call.
func (s *PartnersServer) stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, check, err := s.enter(stream.Context())
	if err != nil {
		return statusOf(err)
	}
	return statusOf(handler(service, &partnerStream{tokenStream{enteredStream{stream, ctx}, info.IsServerStream, check}, s}))
}

// A partnerStream is a stream of a partner, whose messages come and are read in
// time.
type partnerStream struct {
	tokenStream
	server *PartnersServer
}

func (s *partnerStream) RecvMsg(m any) error {
	return receiveWithin(s.server.stall, "stream", func() error { return s.tokenStream.RecvMsg(m) })
}

func (s *partnerStream) SendMsg(m any) error {
	return sendWithin(s.server.stall, "stream", func() error { return s.tokenStream.SendMsg(m) })
}

// bounded gives a call that is no stream its time, before its message is read:
// it could be held open otherwise.
func bounded(ctx context.Context, info *tap.Info) (context.Context, error) {
	switch info.FullMethodName {
	case federationpb.Partners_Hello_FullMethodName, federationpb.Partners_Join_FullMethodName, federationpb.Partners_Decline_FullMethodName:
		ctx, cancel := context.WithTimeout(ctx, partnerCallTime)
		context.AfterFunc(ctx, cancel)
		return ctx, nil
	}
	return ctx, nil
}

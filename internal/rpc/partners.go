package rpc

import (
	"context"
	"slices"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/federation"
)

// partners answers agents of partner institutions. Who calls is the partner of
// the connection's certificate, whatever a message says.
type partners struct {
	federationpb.UnimplementedPartnersServer
	server *PartnersServer
}

var _ federationpb.PartnersServer = (*partners)(nil)

// Bounds of what an agent says of itself.
const (
	maxProtocols    = 32
	maxCapabilities = 32
	maxAgentName    = 200
	maxAgreement    = 64 << 10
	maxDeclined     = 2 << 10
)

// Hello agrees on the version of the protocol.
func (s *partners) Hello(ctx context.Context, r *federationpb.HelloRequest) (*federationpb.HelloResponse, error) {
	if err := checkHello(r); err != nil {
		return nil, err
	}
	if !slices.Contains(r.GetProtocols(), federation.Protocol) {
		return nil, galley.Errorf(galley.Unimplemented, "protocols", "the coordinator speaks version %d, this agent %v", federation.Protocol, r.GetProtocols()).
			WithRemedy("run the same release of galley on both sides")
	}
	s.server.log.InfoContext(ctx, "a partner's agent says hello", "partner", partnerOf(ctx), "agent", printable(r.GetAgent()), "address", peerAddress(ctx))
	// No capability is there yet that both could have.
	return &federationpb.HelloResponse{Protocol: federation.Protocol, Partner: partnerOf(ctx)}, nil
}

func checkHello(r *federationpb.HelloRequest) error {
	switch n := len(r.GetProtocols()); {
	case n == 0:
		return galley.Errorf(galley.InvalidArgument, "protocols", "is empty").WithRemedy("send the versions that the agent speaks")
	case n > maxProtocols:
		return galley.Errorf(galley.InvalidArgument, "protocols", "lists %d", n).WithRemedy("send at most %d", maxProtocols)
	case len(r.GetAgent()) > maxAgentName:
		return galley.Errorf(galley.InvalidArgument, "agent", "has %d bytes", len(r.GetAgent())).WithRemedy("send at most %d", maxAgentName)
	}
	return checkCapabilities("capabilities", r.GetCapabilities())
}

// Join takes a partner's agreement.
func (s *partners) Join(ctx context.Context, r *federationpb.JoinRequest) (*federationpb.JoinResponse, error) {
	switch n := len(r.GetAgreement()); {
	case n == 0:
		return nil, galley.Errorf(galley.InvalidArgument, "agreement", "is empty").WithRemedy("send the file, as it is")
	case n > maxAgreement:
		return nil, galley.Errorf(galley.InvalidArgument, "agreement", "has %d bytes", n).WithRemedy("send at most %d", maxAgreement)
	}
	digest, name, err := s.server.control.JoinFederation(ctx, partnerOf(ctx), r.GetAgreement())
	if err != nil {
		return nil, err
	}
	return &federationpb.JoinResponse{Agreement: string(digest), Federation: name}, nil
}

// Decline notes that a partner takes no part in a round.
func (s *partners) Decline(ctx context.Context, r *federationpb.DeclineRequest) (*federationpb.DeclineResponse, error) {
	err := firstOf(
		galley.CheckName("federation", r.GetFederation()),
		galley.CheckName("run", r.GetRun()),
		checkNumber("round", int64(r.GetRound()), 1, federation.MaxRounds),
		checkNumber("attempt", int64(r.GetAttempt()), 1, maxAttempt),
	)
	if err != nil {
		return nil, err
	}
	if n := len(r.GetWhy()); n > maxDeclined {
		return nil, galley.Errorf(galley.InvalidArgument, "why", "has %d bytes", n).WithRemedy("send at most %d", maxDeclined)
	}
	err = s.server.control.DeclineRound(ctx, partnerOf(ctx), r.GetFederation(), r.GetRun(), int(r.GetRound()), int(r.GetAttempt()), r.GetWhy())
	if err != nil {
		return nil, err
	}
	return &federationpb.DeclineResponse{}, nil
}

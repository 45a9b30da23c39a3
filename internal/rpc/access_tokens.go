package rpc

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/internal/auth"
	"galley/internal/control"
)

// Tokens answers the API that hands out tokens.
type Tokens struct {
	controlpb.UnimplementedAccessServer
	tokens *control.Tokens
}

var _ controlpb.AccessServer = (*Tokens)(nil)

// NewTokens makes the API's handlers over t.
func NewTokens(t *control.Tokens) *Tokens { return &Tokens{tokens: t} }

// CreateToken makes a token.
func (s *Tokens) CreateToken(ctx context.Context, r *controlpb.CreateTokenRequest) (*controlpb.NewToken, error) {
	role, err := auth.ParseRole(r.GetRole())
	if err != nil {
		return nil, statusOf(err)
	}
	lifetime, err := lasting("lifetime", r.GetLifetime(), control.TokenLifetime)
	if err != nil {
		return nil, statusOf(err)
	}
	return s.newToken(s.tokens.Create(ctx, actorOf(ctx), control.TokenRequest{
		Role: role, Name: r.GetName(), Tenant: r.GetTenant(), Lifetime: lifetime,
	}))
}

// ListTokens describes all tokens.
func (s *Tokens) ListTokens(context.Context, *controlpb.ListTokensRequest) (*controlpb.ListTokensResponse, error) {
	out := &controlpb.ListTokensResponse{}
	for _, t := range s.tokens.List() {
		out.Tokens = append(out.Tokens, s.tokenOf(t))
	}
	return out, nil
}

// RevokeToken ends a token.
func (s *Tokens) RevokeToken(ctx context.Context, r *controlpb.RevokeTokenRequest) (*controlpb.Token, error) {
	t, err := s.tokens.Revoke(ctx, actorOf(ctx), r.GetId())
	if err != nil {
		return nil, statusOf(err)
	}
	return s.tokenOf(t), nil
}

// RotateToken makes a token in place of another.
func (s *Tokens) RotateToken(ctx context.Context, r *controlpb.RotateTokenRequest) (*controlpb.NewToken, error) {
	overlap, err := lasting("overlap", r.GetOverlap(), control.TokenOverlap)
	if err != nil {
		return nil, statusOf(err)
	}
	lifetime, err := lasting("lifetime", r.GetLifetime(), control.TokenLifetime)
	if err != nil {
		return nil, statusOf(err)
	}
	return s.newToken(s.tokens.Rotate(ctx, actorOf(ctx), r.GetId(), overlap, lifetime))
}

// lasting is a duration that was asked for, or the usual one.
func lasting(field string, d *durationpb.Duration, usual time.Duration) (time.Duration, error) {
	if d == nil {
		return usual, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, galley.Errorf(galley.InvalidArgument, field, "is not a duration").WithRemedy("write seconds: 7776000s")
	}
	return d.AsDuration(), nil
}

func (s *Tokens) newToken(t auth.Token, secret string, err error) (*controlpb.NewToken, error) {
	if err != nil {
		return nil, statusOf(err)
	}
	return &controlpb.NewToken{Token: secret, About: s.tokenOf(t)}, nil
}

func (s *Tokens) tokenOf(t auth.Token) *controlpb.Token {
	out := &controlpb.Token{
		Id: t.ID, Name: t.Name, Role: string(t.Role), Tenant: t.Tenant, Replaces: t.Replaces, Created: timestamppb.New(t.Created), State: "live",
	}
	if !t.Expires.IsZero() {
		out.Expires = timestamppb.New(t.Expires)
	}
	switch {
	case !t.Revoked.IsZero():
		out.Revoked, out.State = timestamppb.New(t.Revoked), "revoked"
	case !s.tokens.Live(t):
		out.State = "expired"
	}
	return out
}

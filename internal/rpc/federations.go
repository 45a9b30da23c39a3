package rpc

import (
	"context"
	"encoding/json"

	"google.golang.org/protobuf/types/known/timestamppb"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/federation"
	"galley/internal/control"
)

// Federations answers the API of partners and federated rounds.
type Federations struct {
	controlpb.UnimplementedFederationsServer
	control *control.Control
}

var _ controlpb.FederationsServer = (*Federations)(nil)

// NewFederations makes the API's handlers over c.
func NewFederations(c *control.Control) *Federations { return &Federations{control: c} }

// maxCertificate bounds a partner's certificate, as PEM.
const maxCertificate = 16 << 10

// EnrolPartner takes in a partner's certificate.
func (s *Federations) EnrolPartner(ctx context.Context, r *controlpb.EnrolPartnerRequest) (*controlpb.Partner, error) {
	if n := len(r.GetCertificate()); n > maxCertificate {
		return nil, statusOf(galley.Errorf(galley.InvalidArgument, "certificate", "has %d bytes", n).
			WithRemedy("send the partner's certificate alone, in PEM: at most %d bytes", maxCertificate))
	}
	return enrolled(s.control.EnrolPartner(ctx, actorOf(ctx), r.GetPartner(), r.GetCertificate(), r.GetReplace()))
}

// ListPartners describes all partners, by name.
func (s *Federations) ListPartners(ctx context.Context, _ *controlpb.ListPartnersRequest) (*controlpb.ListPartnersResponse, error) {
	all, err := s.control.Partners(ctx)
	if err != nil {
		return nil, statusOf(err)
	}
	out := &controlpb.ListPartnersResponse{}
	for _, p := range all {
		out.Partners = append(out.Partners, partnerMessage(p))
	}
	return out, nil
}

// RevokePartner ends a partner's access.
func (s *Federations) RevokePartner(ctx context.Context, r *controlpb.RevokePartnerRequest) (*controlpb.Partner, error) {
	return enrolled(s.control.RevokePartner(ctx, actorOf(ctx), r.GetPartner(), r.GetReason()))
}

// ReinstatePartner gives a partner its access back.
func (s *Federations) ReinstatePartner(ctx context.Context, r *controlpb.PartnerRequest) (*controlpb.Partner, error) {
	return enrolled(s.control.ReinstatePartner(ctx, actorOf(ctx), r.GetPartner()))
}

func enrolled(p control.Partner, err error) (*controlpb.Partner, error) {
	if err != nil {
		return nil, statusOf(err)
	}
	return partnerMessage(p), nil
}

func partnerMessage(p control.Partner) *controlpb.Partner {
	out := &controlpb.Partner{
		Partner: p.Name, Fingerprint: string(p.Fingerprint), Expires: timestamppb.New(p.Expires), Enrolled: timestamppb.New(p.Enrolled),
		Revoked: utf8Text(p.Revoked), Connected: p.Connected,
	}
	for _, m := range p.Memberships {
		out.Memberships = append(out.Memberships, &controlpb.Membership{Federation: m.Federation, Agreement: string(m.Agreement), Expires: timestamppb.New(m.Expires)})
	}
	return out
}

// GetFederation says where a job of kind Federate stands.
func (s *Federations) GetFederation(ctx context.Context, r *controlpb.FederationRequest) (*controlpb.Federation, error) {
	f, err := s.control.Federation(ctx, r.GetJob())
	if err != nil {
		return nil, statusOf(err)
	}
	out := &controlpb.Federation{
		Job: f.Job, Federation: f.Terms.Federation, State: string(f.State), Rounds: int32(f.Terms.Rounds), Closed: int32(f.Closed), Base: string(f.Base),
		Waiting: utf8Text(f.Waiting), Failure: utf8Text(f.Failure),
	}
	for _, m := range f.Members {
		out.Members = append(out.Members, m.Name)
	}
	if f.Round != nil {
		out.Round = roundOf(*f.Round)
	}
	return out, nil
}

// ListRounds describes a job's rounds that have ended, the newest first.
func (s *Federations) ListRounds(ctx context.Context, r *controlpb.ListRoundsRequest) (*controlpb.ListRoundsResponse, error) {
	rounds, err := s.control.Rounds(ctx, r.GetJob(), int(r.GetLimit()))
	if err != nil {
		return nil, statusOf(err)
	}
	out := &controlpb.ListRoundsResponse{}
	for _, round := range rounds {
		out.Rounds = append(out.Rounds, roundOf(round))
	}
	return out, nil
}

// GetRound returns the record of one attempt at a round.
func (s *Federations) GetRound(ctx context.Context, r *controlpb.RoundRequest) (*controlpb.Round, error) {
	round, digest, err := s.control.Round(ctx, r.GetJob(), int(r.GetRound()), int(r.GetAttempt()))
	if err != nil {
		return nil, statusOf(err)
	}
	record, err := json.Marshal(round)
	if err != nil {
		return nil, statusOf(galley.Errorf(galley.Internal, "round", "cannot be written: %w", err))
	}
	out := roundOf(round)
	out.Record, out.Digest = utf8Text(string(record)), string(digest)
	return out, nil
}

// GetAgreement returns an agreement as a partner handed it over.
func (s *Federations) GetAgreement(ctx context.Context, r *controlpb.AgreementRequest) (*controlpb.Agreement, error) {
	digest, err := galley.ParseDigest(r.GetDigest())
	if err != nil {
		return nil, statusOf(err)
	}
	a, err := s.control.Agreement(ctx, digest)
	if err != nil {
		return nil, statusOf(err)
	}
	return &controlpb.Agreement{
		Digest: string(a.Digest), Partner: a.Partner, Federation: a.Federation, File: utf8Text(string(a.File)), Joined: timestamppb.New(a.Joined),
	}, nil
}

func roundOf(r federation.Round) *controlpb.Round {
	out := &controlpb.Round{
		Round: int32(r.Number), Attempt: int32(r.Attempt), Phase: string(r.Phase), Opened: timestamppb.New(r.Opened), Deadline: timestamppb.New(r.Deadline),
		Aggregate: string(r.Aggregate), Failure: utf8Text(r.Failure), CoordinatorSawSingleUpdates: r.SingleUpdatesSeen, Metrics: r.Metrics,
	}
	if !r.Ended.IsZero() {
		out.Ended = timestamppb.New(r.Ended)
	}
	for _, e := range r.Cohort {
		part := &controlpb.RoundPart{
			Partner: e.Partner, Standing: string(e.Standing), Why: utf8Text(e.Why), Share: e.Share, Agreement: string(e.Agreement),
		}
		if e.Header != nil {
			part.Rows = e.Header.Rows
		}
		if n := len(e.Refusals); n > 0 {
			part.Refusal = utf8Text(string(e.Refusals[n-1].Reason) + ": " + e.Refusals[n-1].Message)
		}
		out.Cohort = append(out.Cohort, part)
	}
	return out
}

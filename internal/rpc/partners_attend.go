package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/federation"
)

// Attend sends a partner its offers, for as long as its agent is there.
func (s *partners) Attend(r *federationpb.AttendRequest, stream grpc.ServerStreamingServer[federationpb.Offer]) error {
	if err := galley.CheckName("federation", r.GetFederation()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.server.closing, func() {
		cancel(galley.Errorf(galley.Unavailable, "attend", "the coordinator is going away").WithRemedy("attend again in a while"))
	})()
	err := s.server.control.Attend(ctx, partnerOf(ctx), r.GetFederation(), func(o federation.Offer) error {
		return stream.Send(offerOf(o))
	})
	if cause := context.Cause(ctx); cause != nil && stream.Context().Err() == nil {
		return cause
	}
	return err
}

func offerOf(o federation.Offer) *federationpb.Offer {
	out := &federationpb.Offer{
		Protocol: int32(o.Protocol), Federation: o.Federation, Run: o.Run, Round: int32(o.Round), Attempt: int32(o.Attempt),
		Partner: o.Partner, Agreement: string(o.Agreement), Purpose: o.Purpose, Model: o.Model, Base: string(o.Base), MinCohort: int32(o.MinCohort),
		Strategy: string(o.Strategy), Mu: o.Mu, Clip: o.Clip, Weighting: string(o.Weighting), Metrics: o.Metrics, Within: durationpb.New(o.Within),
		Recipe: o.Recipe,
	}
	for _, c := range o.Capabilities {
		out.Capabilities = append(out.Capabilities, string(c))
	}
	return out
}

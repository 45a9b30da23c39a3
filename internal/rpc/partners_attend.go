package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/federation"
	"galley/internal/control"
	"galley/trainer"
)

// Attend sends a partner its offers, for as long as its agent is there.
func (s *partners) Attend(r *federationpb.AttendRequest, stream grpc.ServerStreamingServer[federationpb.Offer]) error {
	if err := galley.CheckName("federation", r.GetFederation()); err != nil {
		return err
	}
	if r.GetRun() != "" {
		if err := galley.CheckName("run", r.GetRun()); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.server.closing, func() {
		cancel(galley.Errorf(galley.Unavailable, "attend", "the coordinator is going away").WithRemedy("attend again in a while"))
	})()
	err := s.server.control.Attend(ctx, partnerOf(ctx), r.GetFederation(), func(o federation.Offer) error {
		return stream.Send(offerOf(o))
	}, endsOf(r, stream))
	if cause := context.Cause(ctx); cause != nil && stream.Context().Err() == nil {
		return cause
	}
	return err
}

// endsOf has an agent told of runs that end, nil if it does not want it: one of
// an earlier release would take that for an offer.
func endsOf(r *federationpb.AttendRequest, stream grpc.ServerStreamingServer[federationpb.Offer]) *control.Ends {
	if !r.GetEnds() {
		return nil
	}
	return &control.Ends{Run: r.GetRun(), Tell: func(run string, phase trainer.Phase) error {
		return stream.Send(&federationpb.Offer{Federation: r.GetFederation(), Run: run, Ended: string(phase)})
	}}
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

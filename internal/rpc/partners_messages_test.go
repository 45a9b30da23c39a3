package rpc

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	grpcmd "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	federationpb "galley/api/federation/v1"
)

// What agents say of themselves is bounded.
func TestPartnersMessages(t *testing.T) {
	f := newFederatedRun(t, 8, nil, []string{"harbour-gazette"})
	agent := f.agent(t, "harbour-gazette")
	for _, tt := range []struct {
		field string
		code  codes.Code
		call  func() error
	}{
		{"protocols", codes.Unimplemented, func() error {
			_, err := agent.Hello(t.Context(), &federationpb.HelloRequest{Protocols: []int32{2, 3}})
			return err
		}},
		{"protocols", codes.InvalidArgument, func() error { _, err := agent.Hello(t.Context(), &federationpb.HelloRequest{}); return err }},
		{"protocols", codes.InvalidArgument, func() error {
			_, err := agent.Hello(t.Context(), &federationpb.HelloRequest{Protocols: make([]int32, 100)})
			return err
		}},
		{"agent", codes.InvalidArgument, func() error {
			_, err := agent.Hello(t.Context(), &federationpb.HelloRequest{Protocols: []int32{1}, Agent: strings.Repeat("x", 1000)})
			return err
		}},
		{"capabilities", codes.InvalidArgument, func() error {
			_, err := agent.Hello(t.Context(), &federationpb.HelloRequest{Protocols: []int32{1}, Capabilities: make([]string, 100)})
			return err
		}},
		{"agreement", codes.InvalidArgument, func() error { _, err := agent.Join(t.Context(), &federationpb.JoinRequest{}); return err }},
		{"agreement", codes.InvalidArgument, func() error {
			_, err := agent.Join(t.Context(), &federationpb.JoinRequest{Agreement: make([]byte, maxAgreement+1)})
			return err
		}},
		{"", codes.ResourceExhausted, func() error {
			_, err := agent.Join(t.Context(), &federationpb.JoinRequest{Agreement: make([]byte, 2<<20)})
			return err
		}},
		{"why", codes.InvalidArgument, func() error {
			_, err := agent.Decline(t.Context(), &federationpb.DeclineRequest{Federation: "news", Run: f.job, Round: 1, Attempt: 1, Why: strings.Repeat("x", maxDeclined+1)})
			return err
		}},
		{"round", codes.InvalidArgument, func() error {
			_, err := agent.Decline(t.Context(), &federationpb.DeclineRequest{Federation: "news", Run: f.job, Attempt: 1})
			return err
		}},
		{"federation", codes.InvalidArgument, func() error {
			stream, err := agent.Attend(t.Context(), &federationpb.AttendRequest{Federation: "../news"})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}},
		{"digest", codes.InvalidArgument, func() error {
			_, _, err := fetchWeights(t.Context(), agent, &federationpb.Offer{Federation: "news", Run: f.job, Base: "x"}, 0)
			return err
		}},
		{"header", codes.InvalidArgument, func() error {
			stream, err := agent.Upload(t.Context())
			if err == nil {
				err = stream.Send(&federationpb.UploadRequest{Part: &federationpb.UploadRequest_Data{Data: []byte("GLYWGTS1")}})
			}
			if err == nil {
				_, err = stream.CloseAndRecv()
			}
			return err
		}},
		{"header", codes.InvalidArgument, func() error {
			stream, err := agent.Upload(t.Context())
			if err == nil {
				_, err = stream.CloseAndRecv()
			}
			return err
		}},
	} {
		err := tt.call()
		if e := FromStatus(err); status.Code(err) != tt.code || e.Subject != tt.field {
			t.Errorf("%s: %v", tt.field, err)
		}
	}
	// The agreement of another partner is not this one's.
	if _, err := agent.Join(t.Context(), &federationpb.JoinRequest{Agreement: agreementFile("the-other")}); err == nil {
		t.Error("another partner's agreement is taken")
	}
	huge := grpcmd.AppendToOutgoingContext(t.Context(), "x-large", strings.Repeat("x", maxPartnerHeaders))
	if _, err := agent.Hello(huge, hello()); err == nil {
		t.Error("a large head is taken")
	}
	if _, err := agent.Hello(t.Context(), hello()); err != nil {
		t.Errorf("after all: %v", err)
	}
}

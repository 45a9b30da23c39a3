package rpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	federationpb "galley/api/federation/v1"
)

// An update of 10 GB is refused at the model's size; the rest is not read.
func TestPartnersTenGigabytes(t *testing.T) {
	f := newFederatedRun(t, 8, nil, []string{"harbour-gazette", "the-other"})
	offers := f.attend(t, "harbour-gazette")
	f.attend(t, "the-other")
	o := offered(t, offers)
	good := f.update(t, 1e-3)
	begun := time.Now()
	r, sent, err := uploadTo(t.Context(), f.agent(t, "harbour-gazette"), f.header(o, good), io.MultiReader(bytes.NewReader(good), io.LimitReader(zeros{}, 10<<30)), 1<<20)
	if err != nil || r.GetAccepted() || r.GetReason() != "too-large" {
		t.Errorf("%v, %v", r, err)
	}
	if sent > 16<<20 || time.Since(begun) > 10*time.Second {
		t.Errorf("%d bytes were taken in %s of an update of %d", sent, time.Since(begun), len(good))
	}
	if spooled := f.server.counts.in.Load(); spooled > 32<<20 {
		t.Errorf("%d bytes were read", spooled)
	}
}

// Uploads that are held open, or drip, are ended, and hold nobody's place.
func TestPartnersHeldOpen(t *testing.T) {
	f := newFederatedRun(t, 8, func(s *PartnersServer) { s.stall = 300 * time.Millisecond }, []string{"harbour-gazette", "the-other"})
	offers := f.attend(t, "harbour-gazette")
	f.attend(t, "the-other")
	o := offered(t, offers)
	good := f.update(t, 1e-3)
	agent := f.agent(t, "harbour-gazette")
	header := &federationpb.UploadRequest{Part: &federationpb.UploadRequest_Header{Header: f.header(o, good)}}
	for what, send := range map[string]func(federationpb.Partners_UploadClient, int) error{
		"nothing at all": func(federationpb.Partners_UploadClient, int) error { return nil },
		"a header alone": func(s federationpb.Partners_UploadClient, i int) error {
			if i == 0 {
				return s.Send(header)
			}
			return nil
		},
		"drops": func(s federationpb.Partners_UploadClient, i int) error {
			if i == 0 {
				return s.Send(header)
			}
			return s.Send(&federationpb.UploadRequest{Part: &federationpb.UploadRequest_Data{Data: good[i-1 : i]}})
		},
		"empty pieces": func(s federationpb.Partners_UploadClient, i int) error {
			if i == 0 {
				return s.Send(header)
			}
			return s.Send(&federationpb.UploadRequest{Part: &federationpb.UploadRequest_Data{}})
		},
	} {
		stream, err := agent.Upload(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		done := make(chan error, 1)
		go func() {
			done <- stream.RecvMsg(new(federationpb.UploadResponse))
		}()
		for i := 0; err == nil && len(done) == 0; i++ {
			err = send(stream, i)
			time.Sleep(20 * time.Millisecond)
			if time.Since(begun) > 10*time.Second {
				t.Fatalf("%s: held for %s", what, time.Since(begun))
			}
		}
		if err := <-done; status.Code(err) != codes.DeadlineExceeded || FromStatus(err).Remedy == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if r, _, err := uploadTo(t.Context(), agent, f.header(o, good), bytes.NewReader(good), 1<<20); err != nil || !r.GetAccepted() {
		t.Errorf("after all: %v, %v", r, err)
	}
}

// ends tells which calls of a server have ended, and how.
type ends struct{ calls chan error }

type endOf struct{}

func (e ends) TagRPC(ctx context.Context, i *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, endOf{}, i.FullMethodName)
}

func (e ends) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if end, ok := s.(*stats.End); ok && ctx.Value(endOf{}) == federationpb.Partners_FetchModel_FullMethodName {
		e.calls <- end.Error
	}
}
func (e ends) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (e ends) HandleConn(context.Context, stats.ConnStats)                       {}

// An agent that does not read what it fetches is let go, and holds up neither
// others nor the end.
func TestPartnersSlowReader(t *testing.T) {
	ended := ends{make(chan error, 10)}
	f := newFederatedRun(t, 256, func(s *PartnersServer) { s.stall = 500 * time.Millisecond }, []string{"harbour-gazette"}, grpc.StatsHandler(ended))
	stall := make(chan struct{})
	conn := f.conn(t, []tls.Certificate{f.certs["harbour-gazette"]}, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		return &stalling{Conn: c, stalled: stall, closed: make(chan struct{})}, err
	}))
	slow := federationpb.NewPartnersClient(conn)
	if _, err := slow.Hello(t.Context(), hello()); err != nil {
		t.Fatal(err)
	}
	close(stall)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := slow.FetchModel(ctx, &federationpb.FetchModelRequest{Federation: "news", Run: f.job}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended.calls:
		if status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("%v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the server waits for who does not read")
	}
	if files := fetchModel(t, f.agent(t, "harbour-gazette"), f.job); len(files) != 3 {
		t.Errorf("%d files", len(files))
	}
}

// A drain ends the streams that agents wait on, at once, and says so.
func TestPartnersDrain(t *testing.T) {
	f := newFederatedRun(t, 8, nil, []string{"harbour-gazette", "the-other"})
	stream, err := f.agent(t, "harbour-gazette").Attend(t.Context(), &federationpb.AttendRequest{Federation: "news"})
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a partner that is present", func() bool {
		all, err := f.control.Partners(t.Context())
		return err == nil && all[0].Connected
	})
	begun := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	f.server.Shutdown(ctx)
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unavailable || FromStatus(err).Remedy == "" || time.Since(begun) > 5*time.Second {
		t.Errorf("after %s: %v", time.Since(begun), err)
	}
}

// An agent whose machine is gone, without a word, is not present for long.
func TestPartnersPresenceEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for pings that nobody answers")
	}
	f := newFederatedRun(t, 8, nil, []string{"harbour-gazette"}, grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Second, Timeout: time.Second}))
	gone := make(chan struct{})
	conn := f.conn(t, []tls.Certificate{f.certs["harbour-gazette"]}, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		return &stalling{Conn: c, stalled: gone, closed: make(chan struct{})}, err
	}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := federationpb.NewPartnersClient(conn).Attend(ctx, &federationpb.AttendRequest{Federation: "news"}); err != nil {
		t.Fatal(err)
	}
	connected := func() bool {
		all, err := f.control.Partners(t.Context())
		return err == nil && all[0].Connected
	}
	waitFor(t, "a partner that is present", connected)
	close(gone)
	waitFor(t, "a partner that is away", func() bool { return !connected() && f.server.conns.count() == 1 }) // the one that it joined on
}

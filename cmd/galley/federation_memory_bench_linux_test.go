//go:build bench

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/federation"
	"galley/internal/partner"
)

// TestBenchFederationMemory holds what a coordinator's memory grows by through
// rounds of a hundred partners, who answer at the same time, to three times the
// model and 64 MB. The partners are simulated in this process: they fetch and
// send what agents do, and hold no model.
func TestBenchFederationMemory(t *testing.T) {
	const partners, rounds = 100, 2
	for _, numbers := range []int{62_500, 2_500_000} {
		model := int64(4 * numbers)
		t.Run(fmt.Sprintf("%d kB", model/1000), func(t *testing.T) {
			c := startCoordinator(t, numbers)
			all := make([]*simulated, partners)
			for i := range all {
				all[i] = c.simulate(t, fmt.Sprintf("partner-%03d", i+1), float32(i+1))
			}
			before := residentBytes(t, c.process.Pid)
			resetPeak(t, c.process.Pid)
			ctx, stop := context.WithCancel(t.Context())
			var attending sync.WaitGroup
			defer attending.Wait()
			defer stop()
			var accepted, peak atomic.Int64
			for _, p := range all {
				attending.Go(func() {
					err := p.attend(ctx, func() {
						if accepted.Add(1) == partners*rounds {
							peak.Store(peakBytes(t, c.process.Pid))
						}
					})
					if err != nil && ctx.Err() == nil {
						t.Errorf("%s: %v", p.name, err)
					}
				})
			}
			c.awaitPartners(t, partners)
			c.federate(t, rounds, partners)
			after := peakBytes(t, c.process.Pid)
			grown, wanted := peak.Load()-before, 3*model+64e6
			t.Logf("%d MB before, %d MB more in rounds; %d MB more until their version was there", before/1e6, grown/1e6, (after-before)/1e6)
			if grown > wanted {
				t.Errorf("rounds took %d MB; they have to do with %d", grown/1e6, wanted/1e6)
			}
		})
	}
}

// A simulated partner answers each offer with an update of its own, which it
// makes while it sends it.
type simulated struct {
	name      string
	identity  partner.Identity
	client    federationpb.PartnersClient
	agreement galley.Digest
	number    float32 // each weight of its update
}

// simulate enrols a partner, who joins.
func (c *coordinator) simulate(t *testing.T, name string, number float32) *simulated {
	t.Helper()
	identity, _ := c.enrol(t, name)
	conn, err := grpc.NewClient(c.port, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, // it is the server that this test started
		Certificates: []tls.Certificate{{Certificate: [][]byte{identity.Certificate.Raw}, PrivateKey: identity.Key}},
	})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := &simulated{name: name, identity: identity, client: federationpb.NewPartnersClient(conn), number: number}
	joined, err := s.client.Join(t.Context(), &federationpb.JoinRequest{Agreement: []byte(newsAgreement(name))})
	if err != nil {
		t.Fatal(err)
	}
	s.agreement = galley.Digest(joined.GetAgreement())
	return s
}

// attend answers offers until ctx ends.
func (s *simulated) attend(ctx context.Context, accepted func()) error {
	offers, err := s.client.Attend(ctx, &federationpb.AttendRequest{Federation: "news"})
	if err != nil {
		return err
	}
	for {
		o, err := offers.Recv()
		if err != nil {
			return err
		}
		l, err := s.base(ctx, o)
		if err != nil {
			return err
		}
		r, err := s.upload(ctx, o, l)
		if err != nil {
			return err
		}
		if !r.GetAccepted() {
			return errors.New(r.GetReason() + ": " + r.GetMessage())
		}
		accepted()
	}
}

// base reads the weights that a round begins with, and keeps their layout.
func (s *simulated) base(ctx context.Context, o *federationpb.Offer) (federation.Layout, error) {
	stream, err := s.client.FetchWeights(ctx, &federationpb.FetchWeightsRequest{Federation: o.GetFederation(), Run: o.GetRun(), Digest: o.GetBase()})
	if err != nil {
		return nil, err
	}
	in, err := federation.NewReader(&chunks{stream: stream}, nil)
	if err != nil {
		return nil, err
	}
	row := make([]float32, 4096)
	for left := in.Layout().Elements(); left > 0; left -= int64(len(row)) {
		row = row[:min(left, int64(len(row)))]
		if err := in.Read(row); err != nil {
			return nil, err
		}
	}
	_, err = in.Close()
	return in.Layout(), err
}

// chunks are the bytes of a stream of weights.
type chunks struct {
	stream grpc.ServerStreamingClient[federationpb.WeightsChunk]
	left   []byte
}

func (c *chunks) Read(b []byte) (int, error) {
	for len(c.left) == 0 {
		chunk, err := c.stream.Recv()
		if err != nil {
			return 0, err
		}
		c.left = chunk.GetData()
	}
	n := copy(b, c.left)
	c.left = c.left[n:]
	return n, nil
}

// upload sends an update, in pieces as agents do.
func (s *simulated) upload(ctx context.Context, o *federationpb.Offer, l federation.Layout) (*federationpb.UploadResponse, error) {
	digest, err := s.write(io.Discard, l)
	if err != nil {
		return nil, err
	}
	signed := federation.Sign(federation.Header{
		Protocol: federation.Protocol, Federation: o.GetFederation(), Run: o.GetRun(), Round: int(o.GetRound()), Attempt: int(o.GetAttempt()),
		Partner: s.name, Agreement: s.agreement, Base: galley.Digest(o.GetBase()), Update: digest, Rows: 100,
	}, s.identity.Key)
	stream, err := s.client.Upload(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&federationpb.UploadRequest{Part: &federationpb.UploadRequest_Header{Header: &federationpb.Header{
		Protocol: int32(signed.Protocol), Federation: signed.Federation, Run: signed.Run, Round: int32(signed.Round), Attempt: int32(signed.Attempt),
		Partner: signed.Partner, Agreement: string(signed.Agreement), Base: string(signed.Base), Update: string(signed.Update), Rows: signed.Rows, Signature: signed.Signature,
	}}})
	if err != nil {
		return nil, err
	}
	out := bufio.NewWriterSize(pieces{stream}, 15<<10)
	if _, err = s.write(out, l); err == nil {
		err = out.Flush()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return stream.CloseAndRecv()
}

// write writes the update.
func (s *simulated) write(w io.Writer, l federation.Layout) (galley.Digest, error) {
	out, err := federation.NewWriter(w, l)
	if err != nil {
		return "", err
	}
	row := make([]float32, 4096)
	for i := range row {
		row[i] = s.number * 1e-6
	}
	for left := l.Elements(); left > 0; left -= int64(len(row)) {
		row = row[:min(left, int64(len(row)))]
		if err := out.Write(row); err != nil {
			return "", err
		}
	}
	return out.Close()
}

// pieces sends what is written, a message each time.
type pieces struct {
	stream grpc.ClientStreamingClient[federationpb.UploadRequest, federationpb.UploadResponse]
}

func (p pieces) Write(b []byte) (int, error) {
	return len(b), p.stream.Send(&federationpb.UploadRequest{Part: &federationpb.UploadRequest_Data{Data: b}})
}

// resetPeak makes peakBytes count from now on.
func resetPeak(t *testing.T, pid int) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}

// peakBytes is the most that a process had of the machine's memory.
func peakBytes(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Error(err)
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kib, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		t.Error(err)
	}
	return kib << 10
}

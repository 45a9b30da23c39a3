package partner

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/federation"
)

// caller is the certificate's partner.
func (c *coordinator) caller(ctx context.Context, call string) (string, error) {
	p, _ := peer.FromContext(ctx)
	name := c.enrolled[galley.DigestBytes(p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0].Raw)]
	c.calls[call]++
	if name == "" {
		return "", status.Error(codes.PermissionDenied, "revoked")
	}
	return name, nil
}

func (c *coordinator) Hello(ctx context.Context, r *federationpb.HelloRequest) (*federationpb.HelloResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name, err := c.caller(ctx, "hello")
	c.agents = append(c.agents, r.GetAgent())
	return &federationpb.HelloResponse{Protocol: federation.Protocol, Partner: name}, err
}

func (c *coordinator) Join(ctx context.Context, r *federationpb.JoinRequest) (*federationpb.JoinResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name, err := c.caller(ctx, "join")
	if err != nil {
		return nil, err
	}
	a, problems := federation.ParseAgreement(r.GetAgreement())
	if err := problems.AsError("agreement"); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	c.joined++
	c.apply(federation.Joined{Member: federation.Member{Name: name, Key: c.keys[name], Agreement: a}})
	return &federationpb.JoinResponse{Agreement: string(a.Digest()), Federation: a.Federation}, nil
}

func (c *coordinator) Attend(r *federationpb.AttendRequest, stream grpc.ServerStreamingServer[federationpb.Offer]) error {
	c.mu.Lock()
	name, err := c.caller(stream.Context(), "attend")
	if err != nil {
		c.mu.Unlock()
		return err
	}
	c.asks = append(c.asks, r)
	offers := make(chan *federationpb.Offer, 100)
	c.attending[name] = offers
	c.announce(name)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.attending[name] == offers {
			delete(c.attending, name)
		}
	}()
	for {
		select {
		case o := <-offers:
			if err := stream.Send(o); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (c *coordinator) FetchModel(r *federationpb.FetchModelRequest, stream grpc.ServerStreamingServer[federationpb.ModelChunk]) error {
	c.mu.Lock()
	_, err := c.caller(stream.Context(), "model")
	hook := c.fetch
	c.mu.Unlock()
	if err != nil || hook != nil {
		return errors.Join(err, callHook(hook, stream))
	}
	for _, f := range c.files {
		data, err := os.ReadFile(filepath.Join(c.model, f.Name))
		if err != nil {
			return err
		}
		for i := 0; i < len(data); i += 1000 {
			chunk := &federationpb.ModelChunk{Data: data[i:min(len(data), i+1000)]}
			if i == 0 {
				chunk.Name, chunk.Size, chunk.Digest = f.Name, f.Size, string(f.Digest)
			}
			if err := stream.Send(chunk); err != nil {
				return err
			}
		}
	}
	return nil
}

func callHook(hook func(grpc.ServerStreamingServer[federationpb.ModelChunk]) error, stream grpc.ServerStreamingServer[federationpb.ModelChunk]) error {
	if hook == nil {
		return nil
	}
	return hook(stream)
}

func (c *coordinator) FetchWeights(r *federationpb.FetchWeightsRequest, stream grpc.ServerStreamingServer[federationpb.WeightsChunk]) error {
	c.mu.Lock()
	_, err := c.caller(stream.Context(), "weights")
	hook, data := c.weights, c.shelf[galley.Digest(r.GetDigest())]
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if hook != nil {
		return hook(r, stream)
	}
	if data == nil {
		return status.Error(codes.NotFound, "no such weights")
	}
	return sendWeights(stream, data, r.GetOffset(), int64(len(data)))
}

// sendWeights sends weights from an offset to an end.
func sendWeights(stream grpc.ServerStreamingServer[federationpb.WeightsChunk], data []byte, from, to int64) error {
	for at := from; at < to; at += 1000 {
		if err := stream.Send(&federationpb.WeightsChunk{Offset: at, Size: int64(len(data)), Data: data[at:min(to, at+1000)]}); err != nil {
			return err
		}
	}
	return nil
}

func (c *coordinator) Upload(stream grpc.ClientStreamingServer[federationpb.UploadRequest, federationpb.UploadResponse]) error {
	c.mu.Lock()
	name, err := c.caller(stream.Context(), "upload")
	hook := c.upload
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if hook != nil {
		if err := hook(); err != nil {
			return err
		}
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	h := first.GetHeader()
	var body bytes.Buffer
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		body.Write(m.GetData())
	}
	header := federation.SignedHeader{Signature: h.GetSignature(), Header: federation.Header{
		Protocol: int(h.GetProtocol()), Federation: h.GetFederation(), Run: h.GetRun(), Round: int(h.GetRound()), Attempt: int(h.GetAttempt()),
		Partner: h.GetPartner(), Agreement: galley.Digest(h.GetAgreement()), Base: galley.Digest(h.GetBase()), Update: galley.Digest(h.GetUpdate()),
		Rows: h.GetRows(), Metrics: h.GetMetrics(),
	}}
	c.mu.Lock()
	defer c.mu.Unlock()
	if header.Partner != name {
		return status.Error(codes.PermissionDenied, "another's header")
	}
	submitted := federation.Submitted{At: time.Now(), Header: header}
	submitted.Finding, err = federation.Inspect(bytes.NewReader(body.Bytes()), c.layout)
	var fault *federation.Fault
	if errors.As(err, &fault) {
		submitted.Fault = fault
	}
	verdict := federation.Verdict{Reason: federation.Stale, Message: "no round is open"}
	if c.f.Round != nil {
		verdict = c.f.Round.Judge(submitted)
		if verdict.OK() && !verdict.Resent {
			c.uploads[header.Update] = body.Bytes()
		}
		c.apply(submitted)
	}
	c.headers, c.verdicts = append(c.headers, header), append(c.verdicts, verdict)
	return stream.SendAndClose(&federationpb.UploadResponse{Accepted: verdict.OK(), Resent: verdict.Resent, Reason: string(verdict.Reason), Message: verdict.Message})
}

func (c *coordinator) Decline(ctx context.Context, r *federationpb.DeclineRequest) (*federationpb.DeclineResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name, err := c.caller(ctx, "decline")
	if err != nil {
		return nil, err
	}
	c.declined = append(c.declined, r)
	c.apply(federation.Refused{At: time.Now(), Partner: name, Round: int(r.GetRound()), Attempt: int(r.GetAttempt()), Why: r.GetWhy()})
	return &federationpb.DeclineResponse{}, nil
}

package rpc

import (
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/federation"
)

// leastPiece is how much of an update must come in the time that a piece has:
// drops would hold the partner's place as long as nothing.
const leastPiece = 64 << 10

// Upload takes a partner's update. One that counts for nothing is an answer.
func (s *partners) Upload(stream grpc.ClientStreamingServer[federationpb.UploadRequest, federationpb.UploadResponse]) error {
	v, err := s.upload(stream)
	s.server.counts.uploaded(v, err)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&federationpb.UploadResponse{
		Accepted: v.OK(), Resent: v.Resent, Reason: string(v.Reason), Message: utf8Text(v.Message),
	})
}

func (s *partners) upload(stream grpc.ClientStreamingServer[federationpb.UploadRequest, federationpb.UploadResponse]) (federation.Verdict, error) {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return federation.Verdict{}, noHeader(err)
	}
	if err != nil {
		return federation.Verdict{}, err
	}
	ctx := stream.Context()
	header, err := headerFrom(first.GetHeader(), partnerOf(ctx))
	if err != nil {
		return federation.Verdict{}, err
	}
	body := &updateReader{stream: stream, limit: s.server.stall}
	v, err := s.server.control.SubmitUpdate(ctx, partnerOf(ctx), header, body)
	if body.err != nil && !errors.Is(body.err, io.EOF) {
		return federation.Verdict{}, body.err // which may have been worded as the file's own
	}
	return v, err
}

// An updateReader reads the pieces of an update as they come.
type updateReader struct {
	stream grpc.ClientStreamingServer[federationpb.UploadRequest, federationpb.UploadResponse]
	limit  time.Duration // for leastPiece bytes
	waited time.Duration // for them, so far
	came   int           // of them
	left   []byte        // of the piece that is read
	err    error
}

// Read implements io.Reader.
func (r *updateReader) Read(p []byte) (int, error) {
	for len(r.left) == 0 && r.err == nil {
		r.left, r.err = r.next()
	}
	if len(r.left) == 0 && len(p) > 0 {
		return 0, r.err
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// next returns the next piece.
func (r *updateReader) next() ([]byte, error) {
	begun := time.Now()
	message, err := r.stream.Recv()
	if err != nil {
		return nil, err
	}
	r.waited += time.Since(begun)
	part, ok := message.GetPart().(*federationpb.UploadRequest_Data)
	if !ok {
		return nil, galley.Errorf(galley.InvalidArgument, "data", "a message has no piece of the update").
			WithRemedy("send the header once, first, and then pieces")
	}
	if n := len(part.Data); n > maxPiece {
		return nil, galley.Errorf(galley.InvalidArgument, "data", "a piece has %d bytes", n).WithRemedy("send at most %d", maxPiece)
	}
	if r.came += len(part.Data); r.came >= leastPiece {
		r.waited, r.came = 0, 0
	} else if r.waited > r.limit {
		return nil, galley.Errorf(galley.DeadlineExceeded, "data", "only %d bytes came in %s", r.came, r.waited.Round(time.Second)).
			WithRemedy("send pieces of up to %d bytes as they are there", maxPiece)
	}
	return part.Data, nil
}

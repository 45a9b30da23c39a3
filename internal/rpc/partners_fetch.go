package rpc

import (
	"errors"
	"io"

	"google.golang.org/grpc"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/internal/control"
)

// fetchPiece is how much of a file a message brings: one that fits into a frame
// of HTTP/2 takes a buffer of 16 KiB. One of 256 KiB takes a whole MiB of grpc's
// buffers, for each of a hundred partners.
const fetchPiece = 15 << 10

// FetchModel sends the files of the model that a run began with.
func (s *partners) FetchModel(r *federationpb.FetchModelRequest, stream grpc.ServerStreamingServer[federationpb.ModelChunk]) error {
	if err := firstOf(galley.CheckName("federation", r.GetFederation()), galley.CheckName("run", r.GetRun())); err != nil {
		return err
	}
	ctx := stream.Context()
	files, err := s.server.control.FederationModel(ctx, partnerOf(ctx), r.GetFederation(), r.GetRun())
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := sendModelFile(f, stream); err != nil {
			return err
		}
	}
	return nil
}

func sendModelFile(f control.ModelFile, stream grpc.ServerStreamingServer[federationpb.ModelChunk]) error {
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	first := true
	return eachPiece(in, f.Size, f.Name, func(data []byte) error {
		chunk := &federationpb.ModelChunk{Data: data}
		if first {
			chunk.Name, chunk.Size, chunk.Digest = f.Name, f.Size, string(f.Digest)
		}
		first = false
		return stream.Send(chunk)
	})
}

// FetchWeights sends the weights that a round begins with, from an offset on.
func (s *partners) FetchWeights(r *federationpb.FetchWeightsRequest, stream grpc.ServerStreamingServer[federationpb.WeightsChunk]) error {
	err := firstOf(galley.CheckName("federation", r.GetFederation()), galley.CheckName("run", r.GetRun()), checkDigest("digest", r.GetDigest()))
	if err != nil {
		return err
	}
	ctx := stream.Context()
	weights, size, err := s.server.control.FederationWeights(ctx, partnerOf(ctx), r.GetFederation(), r.GetRun(), galley.Digest(r.GetDigest()))
	if err != nil {
		return err
	}
	defer weights.Close()
	offset := r.GetOffset()
	if offset < 0 || offset > size {
		return galley.Errorf(galley.OutOfRange, "offset", "is %d, and the weights have %d bytes", offset, size).WithRemedy("fetch them from 0 on")
	}
	if _, err := weights.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	return eachPiece(weights, size-offset, "weights", func(data []byte) error {
		chunk := &federationpb.WeightsChunk{Offset: offset, Size: size, Data: data}
		offset += int64(len(data))
		return stream.Send(chunk)
	})
}

// eachPiece gives send so many bytes of in, piece by piece; of none, one empty
// piece. What send keeps after an error is not written to.
func eachPiece(in io.Reader, size int64, what string, send func([]byte) error) error {
	buffer := make([]byte, min(size, fetchPiece))
	for left := size; ; {
		piece := buffer[:min(left, fetchPiece)]
		if _, err := io.ReadFull(in, piece); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return galley.Errorf(galley.DataLoss, what, "ends %d bytes early", left)
			}
			return err
		}
		if err := send(piece); err != nil {
			return err
		}
		if left -= int64(len(piece)); left == 0 {
			return nil
		}
	}
}

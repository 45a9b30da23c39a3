package rpc

import (
	"context"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/internal/control"
)

// Bounds of a chunk.
const (
	maxChunkTexts = 1024
	maxChunkBytes = 4 << 20
)

// Batch answers the API of batch prediction.
type Batch struct {
	controlpb.UnimplementedBatchServer
	control *control.Control
}

// NewBatch makes the API's handler over c.
func NewBatch(c *control.Control) *Batch { return &Batch{control: c} }

// Predict answers chunks of texts.
func (s *Batch) Predict(stream controlpb.Batch_PredictServer) error {
	return statusOf(s.predict(stream))
}

func (s *Batch) predict(stream controlpb.Batch_PredictServer) error {
	first, err := stream.Recv()
	if err != nil {
		return noHeader(err)
	}
	h := first.GetHeader()
	if h == nil {
		return galley.Errorf(galley.InvalidArgument, "header", "is missing").WithRemedy("send the header first")
	}
	ref, err := galley.ParseRef(h.GetRef())
	if err != nil {
		return err
	}
	var digest galley.Digest
	if h.GetDigest() != "" {
		if digest, err = galley.ParseDigest(h.GetDigest()); err != nil {
			return err
		}
	}
	batch, err := s.control.OpenBatch(stream.Context(), ref, digest)
	if err != nil {
		return err
	}
	defer batch.Close()
	err = stream.Send(&controlpb.PredictResponse{Part: &controlpb.PredictResponse_Model{Model: &controlpb.PredictModel{
		Ref: batch.Version.Ref(), Digest: string(batch.Version.Digest), Labels: batch.Labels(), Parallel: int32(batch.Parallel),
	}}})
	if err != nil {
		return err
	}
	x := exchange{
		stream: stream, parallel: batch.Parallel, silence: silenceTime, unread: stallTime,
		answer: func(ctx context.Context, chunk *controlpb.PredictChunk) (*controlpb.PredictAnswers, error) {
			return answerChunk(ctx, batch, chunk)
		},
	}
	return x.run()
}

func checkChunk(chunk *controlpb.PredictChunk) error {
	bytes := 0
	for _, t := range chunk.GetTexts() {
		bytes += len(t)
	}
	if n := len(chunk.GetTexts()); n == 0 || n > maxChunkTexts || bytes > maxChunkBytes {
		return galley.Errorf(galley.InvalidArgument, "chunk", "has %d texts of %d bytes", n, bytes).
			WithRemedy("send 1 to %d texts of at most %d bytes together", maxChunkTexts, maxChunkBytes)
	}
	return nil
}

func answerChunk(ctx context.Context, batch *control.Batch, chunk *controlpb.PredictChunk) (*controlpb.PredictAnswers, error) {
	answers, err := batch.Predict(ctx, chunk.GetTexts())
	if err != nil {
		return nil, err
	}
	out := &controlpb.PredictAnswers{Number: chunk.GetNumber()}
	for _, a := range answers {
		out.Scores = append(out.Scores, a.Scores...)
		out.Truncated = append(out.Truncated, a.Truncated)
	}
	return out, nil
}

package rpc

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	controlpb "galley/api/control/v1"

	"galley"
)

// silenceTime is how long a client may leave a batch prediction with nothing
// to do. One that goes on with a large file first reads what it has already.
const silenceTime = 5 * time.Minute

// An exchange answers chunks of a stream side by side. The client's next chunk
// is read only when one of them has been answered. What it holds is not held
// for a client that is silent, or does not read.
type exchange struct {
	stream   controlpb.Batch_PredictServer
	answer   func(context.Context, *controlpb.PredictChunk) (*controlpb.PredictAnswers, error)
	parallel int
	silence  time.Duration // without a chunk to answer
	unread   time.Duration // of an answer

	busy     atomic.Int64 // chunks that are being answered
	answered chan struct{}
	sending  sync.Mutex
	stop     context.CancelCauseFunc
}

// run ends when the client's chunks do, or with the first error.
func (x *exchange) run() error {
	ctx, stop := context.WithCancelCause(x.stream.Context())
	defer stop(nil)
	x.stop, x.answered = stop, make(chan struct{}, 1)
	chunks := make(chan *controlpb.PredictChunk)
	go x.receive(ctx, chunks)
	var answering sync.WaitGroup
	for range x.parallel {
		answering.Go(func() {
			for chunk := range chunks {
				if err := x.reply(ctx, chunk); err != nil {
					stop(err)
				}
				x.busy.Add(-1)
				select {
				case x.answered <- struct{}{}:
				default:
				}
			}
		})
	}
	answering.Wait()
	return context.Cause(ctx)
}

func (x *exchange) reply(ctx context.Context, chunk *controlpb.PredictChunk) error {
	answers, err := x.answer(ctx, chunk)
	if err != nil {
		return err
	}
	x.sending.Lock()
	defer x.sending.Unlock()
	if err := ctx.Err(); err != nil { // one that was not read may still be on its way
		return err
	}
	err = sendWithin(x.unread, "predict", func() error {
		return x.stream.Send(&controlpb.PredictResponse{Part: &controlpb.PredictResponse_Answers{Answers: answers}})
	})
	if err != nil {
		x.stop(err)
	}
	return err
}

// receive hands on chunks until there are no more, one is wrong, none comes,
// or ctx ends. It may outlive the call, by one message that nobody waits for.
func (x *exchange) receive(ctx context.Context, to chan<- *controlpb.PredictChunk) {
	received := make(chan *controlpb.PredictRequest)
	failed := make(chan error, 1)
	go func() {
		for {
			request, err := x.stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case received <- request:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer close(to)
	quiet := time.NewTimer(x.silence)
	defer quiet.Stop()
	for {
		select {
		case request := <-received:
			if err := checkChunk(request.GetChunk()); err != nil {
				x.stop(err)
				return
			}
			x.busy.Add(1)
			select {
			case to <- request.GetChunk():
			case <-ctx.Done():
				return
			}
		case err := <-failed:
			if !errors.Is(err, io.EOF) {
				x.stop(err)
			}
			return
		case <-quiet.C:
			if x.busy.Load() == 0 {
				x.stop(galley.Errorf(galley.DeadlineExceeded, "predict", "no chunk came for %s", x.silence).
					WithRemedy("send chunks as they are answered, or end the stream; galley predict --file goes on where it ended"))
				return
			}
		case <-x.answered:
		case <-ctx.Done():
			return
		}
		quiet.Reset(x.silence)
	}
}

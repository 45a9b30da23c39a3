package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/dataset"
)

// A batchRun scores the rows of a file with one version, and goes on where an
// earlier run of the same command ended.
//
//	file -> rows in chunks -> server -> answers, in order -> OUT.part
//	                                 -> how far that is   -> OUT.state
//	at the end: OUT.part becomes OUT
//
// A chunk's rows and answers depend on the file alone, so that a run that was
// killed, however often, leaves the same bytes.
type batchRun struct {
	ref, out string
	in       dataset.Input
	read     dataset.ReadOptions
	progress io.Writer

	state    *batchState
	part     *batchPart
	rejected dataset.Rejections
	window   int // chunks that may be on their way
}

// Bounds of a chunk, of which the server takes a few at a time. A chunk is
// always the same rows: changing these makes runs under way start anew.
const (
	chunkRows  = 256
	chunkBytes = 2 << 20
)

// saveEvery is how long a killed run loses at most.
const saveEvery = 250 * time.Millisecond

// A chunk is rows on their way.
type chunk struct {
	number int64
	rows   []dataset.NumberedRow
}

// A batchResult is what a run did.
type batchResult struct {
	Model    string          `json:"model"`
	Out      string          `json:"out"`
	Rows     int64           `json:"rows"`
	Resumed  int64           `json:"resumed_from"` // rows that an earlier run had scored
	Rejected []rejectionJSON `json:"rejected"`
	Total    int64           `json:"rejected_total"`
	Seconds  float64         `json:"seconds"`
}

// run scores the file.
func (b *batchRun) run(ctx context.Context, c controlpb.BatchClient, format string) (result batchResult, err error) {
	began := time.Now()
	if b.state, err = openBatchState(b.out, b.in, b.read, format); err != nil {
		return result, err
	}
	result.Model, result.Out, result.Rows, result.Resumed = b.state.Ref, b.out, b.state.Rows, b.state.Rows
	result.Rejected = []rejectionJSON{}
	if b.state.complete() {
		return result, b.state.remove()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Predict(ctx)
	if err != nil {
		return result, err
	}
	if err := b.greet(stream); err != nil {
		return result, err
	}
	if b.part, err = openBatchPart(b.state); err != nil {
		return result, err
	}
	defer b.part.close()
	if err := b.score(ctx, stream); err != nil {
		return result, errors.Join(err, b.keep())
	}
	if b.state.Rows == 0 && b.rejected.Total > 0 {
		return result, errors.Join(noneScored(b.in.Name, b.rejected), b.state.remove())
	}
	if err := b.state.save(b.part); err != nil {
		return result, err
	}
	if err := b.part.finish(b.state); err != nil {
		return result, err
	}
	result.Model, result.Rows, result.Total, result.Seconds = b.state.Ref, b.state.Rows, b.rejected.Total, time.Since(began).Seconds()
	for _, r := range b.rejected.First {
		result.Rejected = append(result.Rejected, rejectionJSON(r))
	}
	return result, nil
}

// noneScored is the error of a file of which no row can be scored.
func noneScored(file string, rejected dataset.Rejections) error {
	r := rejected.First[0]
	return galley.Errorf(galley.InvalidArgument, file, "no row can be scored: all %d were left out; line %d: %s", rejected.Total, r.Line, r.Why).
		WithRemedy("correct the rows, or name the columns that have the text with --columns")
}

// keep stores what was scored before something failed; nothing, if that is
// nothing.
func (b *batchRun) keep() error {
	if b.state.Rows == 0 {
		return b.state.remove()
	}
	return b.state.save(b.part)
}

// greet names the version. A run that goes on asks for the one that it began
// with, wherever an alias points by now.
func (b *batchRun) greet(stream controlpb.Batch_PredictClient) error {
	header := &controlpb.PredictHeader{Ref: b.ref}
	if b.state.Ref != "" {
		if err := b.sameModel(); err != nil {
			return err
		}
		header.Ref, header.Digest = b.state.Ref, string(b.state.Model)
	}
	err := stream.Send(&controlpb.PredictRequest{Part: &controlpb.PredictRequest_Header{Header: header}})
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	m := first.GetModel()
	digest, err := galley.ParseDigest(m.GetDigest())
	if err != nil {
		return err
	}
	b.state.Ref, b.state.Model, b.state.Labels = m.GetRef(), digest, m.GetLabels()
	// Enough for all of the server's workers, and as much again on the way.
	b.window = 2*min(max(int(m.GetParallel()), 1), 64) + 2
	return nil
}

// sameModel refuses to go on with a run of another model or version.
func (b *batchRun) sameModel() error {
	asked, err := galley.ParseRef(b.ref)
	if err != nil {
		return err
	}
	had, err := galley.ParseRef(b.state.Ref)
	if err != nil {
		return galley.Errorf(galley.DataLoss, b.state.path, "names no version: %w", err)
	}
	if asked.Digest != "" && asked.Digest == b.state.Model || asked.Name == had.Name && (asked.Version == 0 || asked.Version == had.Version) {
		return nil
	}
	return galley.Errorf(galley.FailedPrecondition, b.out, "is under way with %s, not with %s", b.state.Ref, b.ref).
		WithRemedy("name another --out, or remove %s to begin anew", b.state.path)
}

// score sends chunks and writes their answers, in order.
func (b *batchRun) score(ctx context.Context, stream controlpb.Batch_PredictClient) error {
	sent := make(chan chunk, b.window) // in order, until they are answered
	room := make(chan struct{}, b.window)
	reading := make(chan error, 1)
	go func() {
		defer close(sent)
		err := b.send(ctx, stream, sent, room)
		if err == nil {
			err = stream.CloseSend()
		}
		reading <- err
	}()
	err := b.receive(stream, sent, room)
	if err != nil {
		return err
	}
	return <-reading
}

// send reads the file and sends what no earlier run has answered.
func (b *batchRun) send(ctx context.Context, stream controlpb.Batch_PredictClient, sent chan<- chunk, room chan<- struct{}) error {
	next := chunk{}
	bytes, skip := 0, b.state.Rows
	flush := func() error {
		if len(next.rows) == 0 {
			return nil
		}
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		request := &controlpb.PredictChunk{Number: next.number}
		for _, row := range next.rows {
			request.Texts = append(request.Texts, row.Text)
		}
		sent <- next
		if err := stream.Send(&controlpb.PredictRequest{Part: &controlpb.PredictRequest_Chunk{Chunk: request}}); err != nil {
			if errors.Is(err, io.EOF) {
				return nil // the answer says why
			}
			return err
		}
		next, bytes = chunk{number: next.number + 1}, 0
		return nil
	}
	for row, err := range dataset.ReadNumbered(ctx, b.in, b.read, &b.rejected) {
		if err != nil {
			return err
		}
		if skip > 0 {
			skip--
			continue
		}
		if len(next.rows) == chunkRows || bytes+len(row.Text) > chunkBytes && len(next.rows) > 0 {
			if err := flush(); err != nil {
				return err
			}
		}
		next.rows, bytes = append(next.rows, row), bytes+len(row.Text)
	}
	return flush()
}

// receive writes answers until all chunks have theirs.
func (b *batchRun) receive(stream controlpb.Batch_PredictClient, sent <-chan chunk, room <-chan struct{}) error {
	early := map[int64]*controlpb.PredictAnswers{} // of later chunks
	began, from, saved, told := time.Now(), b.state.Rows, time.Now(), time.Now()
	for c := range sent {
		for early[c.number] == nil {
			r, err := stream.Recv()
			if err != nil {
				if errors.Is(err, io.EOF) {
					err = galley.Errorf(galley.Internal, b.state.Ref, "the server left a chunk unanswered")
				}
				return err
			}
			early[r.GetAnswers().GetNumber()] = r.GetAnswers()
		}
		if err := b.part.write(c.rows, early[c.number], b.state.Labels); err != nil {
			return err
		}
		delete(early, c.number)
		<-room
		b.state.Rows += int64(len(c.rows))
		if time.Since(saved) > saveEvery {
			if err := b.state.save(b.part); err != nil {
				return err
			}
			saved = time.Now()
		}
		if time.Since(told) > 2*time.Second {
			told = time.Now()
			fmt.Fprintf(b.progress, "%d rows, %.0f a second\n", b.state.Rows, float64(b.state.Rows-from)/time.Since(began).Seconds())
		}
	}
	return nil
}

// fileInput is a file of rows on this machine.
func fileInput(path string) dataset.Input {
	return dataset.Input{Name: path, Open: func() (io.ReadCloser, error) { return os.Open(path) }}
}

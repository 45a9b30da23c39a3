package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"galley"
	"galley/federation"
)

// maxAggregations is how often an aggregation is tried that this side fails.
const maxAggregations = 8

func aggregationKey(work federation.StartAggregation) string {
	return fmt.Sprintf("aggregate/%d/%d/%d", work.Round, work.Attempt, work.Ordinal)
}

// aggregate makes the next weights, and tells the run. What this side fails in
// is tried again for a while; then the job fails with it, and can be resumed.
func (c *Control) aggregate(ctx context.Context, r *run, work federation.StartAggregation) {
	for wait, n := c.patience, 1; ; wait, n = min(2*wait, 30*c.patience), n+1 {
		err := c.tryAggregate(ctx, r, work)
		if err == nil || ctx.Err() != nil {
			return
		}
		again := n < maxAggregations && galley.CodeOf(err) != galley.DataLoss
		c.log.Error("a round cannot be aggregated", "job", r.job, "round", work.Round, "error", err, "again", again)
		if !again {
			if err = c.failRun(ctx, r, notAggregated(work, err)); err == nil {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func notAggregated(work federation.StartAggregation, err error) error {
	e := galley.AsError(err)
	out := galley.Errorf(e.Code, fmt.Sprintf("round %d", work.Round), "its updates cannot be aggregated: %v", err)
	if out.Remedy = e.Remedy; out.Remedy == "" {
		out.Remedy = "resume the job when what is wrong is mended: the round goes on with the updates that have come"
	}
	return out
}

func (c *Control) tryAggregate(ctx context.Context, r *run, work federation.StartAggregation) error {
	f, err := c.stored(ctx, r)
	if err != nil {
		return err
	}
	layout, err := c.layoutOf(f, r)
	if err != nil {
		return err
	}
	held, release := c.blobs.Hold(ctx) // the result, until the federation names it
	defer release()
	path, err := c.blobs.VerifiedPath(ctx, work.Base)
	if err != nil {
		return err
	}
	digest, err := c.putWritten(held, func(w io.Writer) (galley.Digest, error) {
		base, err := openFile(path)
		if err != nil {
			return "", err
		}
		defer base.Close()
		return federation.Aggregate(w, layout, base, work.Parts, func(d galley.Digest) (io.ReadCloser, error) {
			file, _, err := c.blobs.Open(d)
			return file, err
		})
	})
	var spoilt *federation.SpoiltError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &spoilt):
		_, err = c.advance(ctx, r, federation.Broke{
			At: c.now(), Round: work.Round, Attempt: work.Attempt, Ordinal: work.Ordinal, Partner: spoilt.Partner, Fault: spoilt.Fault,
		})
		return err
	case err != nil:
		return err
	}
	_, err = c.advance(ctx, r, federation.Aggregated{At: c.now(), Round: work.Round, Attempt: work.Attempt, Ordinal: work.Ordinal, Aggregate: digest})
	return err
}

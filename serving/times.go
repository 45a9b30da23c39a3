package serving

import (
	"context"
	"time"
)

// Times say where the time of one request went, for its trace.
type Times struct {
	Began  time.Time     // zero if no version was asked
	Queue  time.Duration // until its first run began
	Input  time.Duration // making the graph's inputs
	Run    time.Duration // running it
	Output time.Duration // reading its outputs
}

type timesKey struct{}

// WithTimes has Infer write into t where the time of ctx's request went.
func WithTimes(ctx context.Context, t *Times) context.Context {
	return context.WithValue(ctx, timesKey{}, t)
}

// noteTimes tells who wants to know.
func noteTimes(ctx context.Context, began time.Time, t timing) {
	if to, ok := ctx.Value(timesKey{}).(*Times); ok {
		*to = Times{began, t.queue, t.input, t.infer, t.output}
	}
}

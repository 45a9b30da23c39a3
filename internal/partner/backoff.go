package partner

import (
	"context"
	"math/rand/v2"
	"time"
)

// maxPause is the longest that is waited before a call is tried again.
const maxPause = 2 * time.Minute

// A backoff waits longer from time to time, and never as long as others do who
// began together: a coordinator that comes back is not met by all at once.
type backoff struct {
	first time.Duration
	tries int
}

// wait waits, and returns ctx's cause if that ends first.
func (b *backoff) wait(ctx context.Context) error {
	pause := maxPause
	if b.tries < 20 {
		pause = min(maxPause, b.first<<b.tries)
	}
	b.tries++
	return sleep(ctx, pause/2+rand.N(pause/2+1))
}

func (b *backoff) reset() { b.tries = 0 }

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

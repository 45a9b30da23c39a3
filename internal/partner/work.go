package partner

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"galley/federation"
)

// A job is the answer to an offer, under way.
type job struct {
	offer  timed
	cancel context.CancelCauseFunc
	done   chan struct{}
	useful bool // an update was accepted; once done

	sending atomic.Bool // the update is signed, and on its way
}

// hearing is how long an update that is on its way is waited for when a newer
// offer has come: the next round opens with the last update of the one before,
// and its partner may not have heard yet that it was accepted.
const hearing = 5 * time.Second

// errSuperseded ends the answer to an offer that is not the newest any more.
var errSuperseded = errors.New("a newer offer has come")

// work answers offers, one at a time and the newest first, until ctx ends or
// enough rounds are answered.
func (a *agent) work(ctx context.Context) error {
	var present *job
	ended := func() chan struct{} {
		if present == nil {
			return nil
		}
		return present.done
	}
	fruitless := 0
	settle := func() {
		if fruitless++; present.useful {
			fruitless = 0
		}
		present = nil
	}
	for {
		select {
		case <-ctx.Done():
			if present != nil {
				<-present.done
			}
			return context.Cause(ctx)
		case <-ended():
			settle()
			if a.enough() {
				return errEnough
			}
			a.doing.working(Doing{})
		case o := <-a.offers:
			if present != nil {
				if !newer(o.Offer, present.offer.Offer) {
					if o.Base != present.offer.Base {
						a.log.Warn("the round that is being answered was offered with other weights, which is left alone", "round", o.Round, "attempt", o.Attempt)
					}
					continue
				}
				a.supersede(present)
				settle()
				if a.enough() {
					return errEnough
				}
			}
			present = a.begin(ctx, o, a.patience(fruitless))
		}
	}
}

// enough reports whether as many rounds are answered as the operator wants.
func (a *agent) enough() bool {
	if a.options.Rounds == 0 || len(a.done) < a.options.Rounds {
		return false
	}
	a.log.Info("as many rounds are answered as were asked for", "rounds", len(a.done))
	return true
}

// supersede ends the answer to an offer that is not the newest any more.
func (a *agent) supersede(j *job) {
	if j.sending.Load() {
		late := time.NewTimer(hearing)
		defer late.Stop()
		select {
		case <-j.done:
			return
		case <-late.C:
		}
	}
	a.log.Info("a newer offer has come; the one before is given up", "round", j.offer.Round, "attempt", j.offer.Attempt)
	j.cancel(errSuperseded)
	<-j.done
}

// newer reports whether an offer takes the place of another.
func newer(o, than federation.Offer) bool {
	if o.Run != than.Run || o.Round != than.Round {
		return o.Run != than.Run || o.Round > than.Round
	}
	return o.Attempt > than.Attempt
}

// patience is how long the next offer waits after so many that came to nothing:
// a coordinator that repeats itself costs little.
func (a *agent) patience(fruitless int) time.Duration {
	const free, most = 3, 10
	return min(most, time.Duration(max(0, fruitless-free))) * a.options.Pause
}

func (a *agent) begin(ctx context.Context, o timed, after time.Duration) *job {
	j := &job{offer: o, done: make(chan struct{})}
	ctx, j.cancel = context.WithCancelCause(ctx)
	go func() {
		defer close(j.done)
		defer j.cancel(nil)
		if sleep(ctx, after) == nil {
			j.useful = a.answer(ctx, j)
		}
	}()
	return j
}

//go:build peers && bench

package rpc

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	inferencepb "galley/api/inference/v2"
)

// A client asks one server.
type client = inferencepb.GRPCInferenceServiceClient

// holds reports whether at least 99 % of requests that come at random, rate a
// second on average, are answered within the bound. Time counts from when a
// request was due, so that a slow server does not slow its own load; one that
// fails is late. It gives up once too many are late.
func holds(t *testing.T, c client, asks []*inferencepb.ModelInferRequest, seed uint64, rate float64, within time.Duration) bool {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 5))
	allowed := int64(len(asks) / 100)
	var late atomic.Int64
	var requests sync.WaitGroup
	begun, at := time.Now(), 0.0
	for _, ask := range asks {
		at += rng.ExpFloat64() / rate
		due := begun.Add(time.Duration(at * float64(time.Second)))
		time.Sleep(time.Until(due))
		if late.Load() > allowed {
			break
		}
		requests.Go(func() {
			if _, err := c.ModelInfer(context.Background(), ask); err != nil || time.Since(due) > within {
				late.Add(1)
			}
		})
	}
	requests.Wait()
	return late.Load() <= allowed
}

// highest searches the highest rate that holds, between two rates, to 3 %, and
// returns 0 if none does.
// Each rate that it tries has the same arrivals, closer or further apart. What
// does not hold is tried once more: other programs of the machine may have been
// at work.
func highest(t *testing.T, c client, asks []*inferencepb.ModelInferRequest, seed uint64, within time.Duration) float64 {
	t.Helper()
	const from, to, step = 30, 480, 1.03
	rate := func(i int) float64 { return from * math.Pow(step, float64(i)) }
	low, high := -1, 0 // low holds, high does not
	for rate(high) < to {
		high++
	}
	for low+1 < high {
		middle := (low + high) / 2
		if holds(t, c, asks, seed, rate(middle), within) || holds(t, c, asks, seed, rate(middle), within) {
			low = middle
		} else {
			high = middle
		}
	}
	if low < 0 {
		return 0
	}
	return rate(low)
}

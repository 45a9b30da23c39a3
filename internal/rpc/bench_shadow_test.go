//go:build peers && bench

package rpc

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"galley/experiment"
	"galley/internal/processors"
	"galley/registry"
	"galley/serving"
)

// TestBenchShadow measures what a shadow of all requests costs the callers of
// MiniLM, at 30 % of the rate that the machine holds. The shadow is another
// session of the same graph. Turns alternate and are short, so that what else
// the machine does comes upon both alike; requests come at random, the same in
// each turn of a pair. The p99 is that of all turns of an arm.
func TestBenchShadow(t *testing.T) {
	const pairs, requests, load = 20, 125, 0.3
	processors.Serve() // as galley up does
	table := serving.NewTable(models{names: []string{"news"}}, func(_ context.Context, v registry.Version) (*serving.Servable, error) {
		c, s := minilm(t)
		return serving.NewTextClassifier(v, c, s)
	})
	defer table.Close()
	s := &Inference{Table: table, Store: models{names: []string{"news"}}, Name: "galley", Version: "test"}
	texts := newsOf(lengths(4 * requests))
	ask := func(i int) {
		if _, err := s.ModelInfer(context.Background(), asked(texts[i%len(texts)])); err != nil {
			t.Error(err)
		}
	}
	shadow, err := experiment.NewShadow(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	route := experiment.NewRoute(experiment.Experiment{
		ID: 1, Name: "test", Model: "news", Versions: [2]int{2, 3}, Stages: []experiment.Stage{{}}, Metric: experiment.Agreement,
		Unit: experiment.PerOutcome, Guards: experiment.DefaultGuards(), Shadow: shadow, Salt: make([]byte, experiment.SaltSize), State: experiment.Running,
	}, nil)
	var next atomic.Int64
	saturated := func(long time.Duration) float64 {
		var workers sync.WaitGroup
		begun, before := time.Now(), next.Load()
		for range 4 {
			workers.Go(func() {
				for time.Since(begun) < long {
					ask(int(next.Add(1)))
				}
			})
		}
		workers.Wait()
		return float64(next.Load()-before) / time.Since(begun).Seconds()
	}
	saturated(time.Second)
	rate := load * saturated(4*time.Second)
	turn := func(seed uint64) []time.Duration {
		rng := rand.New(rand.NewPCG(seed, 6))
		took := make([]time.Duration, requests)
		var group sync.WaitGroup
		begun, at := time.Now(), 0.0
		for i := range requests {
			at += rng.ExpFloat64() / rate
			due := begun.Add(time.Duration(at * float64(time.Second)))
			time.Sleep(time.Until(due))
			group.Go(func() {
				ask(i + int(seed)*requests)
				took[i] = time.Since(due)
			})
		}
		group.Wait()
		return took
	}
	at := func(share float64, took []time.Duration) float64 {
		sorted := slices.Sorted(slices.Values(took))
		return sorted[int(share*float64(len(sorted)))].Seconds() * 1e3
	}
	var half spread
	var alone, beside []time.Duration
	var primary, shadowed int64
	for pair := range uint64(pairs) {
		var a, b []time.Duration
		for k := range uint64(2) {
			if (pair+k)%2 == 0 {
				table.SetRoute("news", nil)
				a = turn(pair)
				continue
			}
			table.SetRoute("news", route)
			b = turn(pair)
			for arm, n := range []*int64{&primary, &shadowed} {
				*n += route.Meters[arm].Take().Requests
			}
		}
		half = append(half, at(.5, b)/at(.5, a))
		alone, beside = append(alone, a...), append(beside, b...)
	}
	t.Logf("%.0f requests a second; without a shadow p50 %.2f ms, p99 %.2f ms", rate, at(.5, alone), at(.99, alone))
	t.Logf("with it, of p50 %v in pairs of turns, %.3f of all; of p99 %.3f; %d of %d requests were shadowed",
		half, at(.5, beside)/at(.5, alone), at(.99, beside)/at(.99, alone), shadowed, primary)
	if primary != pairs*requests || shadowed == 0 {
		t.Errorf("%d requests, %d shadowed", primary, shadowed)
	}
}

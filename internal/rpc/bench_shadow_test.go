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
	"galley/registry"
	"galley/serving"
)

// TestBenchShadow measures what a shadow of all requests costs the callers of
// MiniLM, at 30 % of the rate that the machine holds. The shadow is another
// session of the same graph. Turns alternate; requests come at random, the same
// in each turn of a pair.
func TestBenchShadow(t *testing.T) {
	const pairs, requests, load = 5, 500, 0.3
	table := serving.NewTable(models{names: []string{"news"}}, func(_ context.Context, v registry.Version) (*serving.Servable, error) {
		c, s := minilm(t)
		return serving.NewTextClassifier(v, c, s)
	})
	defer table.Close()
	s := &Inference{Table: table, Store: models{names: []string{"news"}}, Name: "galley", Version: "test"}
	texts := newsOf(lengths(requests))
	ask := func(i int) {
		if _, err := s.ModelInfer(context.Background(), asked(texts[i%requests])); err != nil {
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
	turn := func(seed uint64) (p50, p99 float64) {
		rng := rand.New(rand.NewPCG(seed, 6))
		took := make([]time.Duration, requests)
		var group sync.WaitGroup
		begun, at := time.Now(), 0.0
		for i := range requests {
			at += rng.ExpFloat64() / rate
			due := begun.Add(time.Duration(at * float64(time.Second)))
			time.Sleep(time.Until(due))
			group.Go(func() {
				ask(i)
				took[i] = time.Since(due)
			})
		}
		group.Wait()
		slices.Sort(took)
		return took[requests/2].Seconds() * 1e3, took[requests*99/100].Seconds() * 1e3
	}
	var p50, p99, half, tail spread
	var primary, shadowed int64
	for pair := range uint64(pairs) {
		table.SetRoute("news", nil)
		a, b := turn(pair)
		table.SetRoute("news", route)
		c, d := turn(pair)
		for arm, n := range []*int64{&primary, &shadowed} {
			*n += route.Meters[arm].Take().Requests
		}
		p50, p99 = append(p50, a), append(p99, b)
		half, tail = append(half, c/a), append(tail, d/b)
	}
	t.Logf("%.0f requests a second; without a shadow p50 %v ms, p99 %v ms", rate, p50, p99)
	t.Logf("with it, of p50 %v, of p99 %v; %d of %d requests were shadowed", half, tail, shadowed, primary)
	if primary != pairs*requests || shadowed == 0 {
		t.Errorf("%d requests, %d shadowed", primary, shadowed)
	}
}

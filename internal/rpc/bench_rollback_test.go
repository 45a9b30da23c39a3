//go:build peers && bench

package rpc

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"

	"galley/registry"
	"galley/serving"
)

// switching is a store whose model "noop" has an alias prod that moves.
type switching struct {
	registry.Store
	mu     sync.Mutex
	target int
}

func (s *switching) Model(context.Context, string) (registry.Model, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return registry.Model{
		Name: "noop", Versions: []registry.Summary{{Number: 1}, {Number: 2}},
		Aliases: []registry.Alias{{Model: "noop", Name: registry.Prod, Target: s.target, Generation: 1}},
	}, nil
}

func (s *switching) Outline(ctx context.Context, name string, _ int) (registry.Model, error) {
	return s.Model(ctx, name)
}

func (s *switching) Version(_ context.Context, name string, number int) (registry.Version, error) {
	return registry.Version{Name: name, Number: number}, nil
}

func (s *switching) point(target int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.target = target
}

// TestBenchRollback holds the time from the command to the last answer of the
// version before, under 2,000 requests a second, and the latency of requests
// meanwhile to that without switches. Latencies count from when a request was
// due.
func TestBenchRollback(t *testing.T) {
	const perSecond, rollbacks, apart = 2000, 50, 60 * time.Millisecond
	store := &switching{target: 1}
	table := serving.NewTable(store, func(_ context.Context, v registry.Version) (*serving.Servable, error) {
		return serving.NewGraph(v, noop(t)), nil
	})
	t.Cleanup(table.Close)
	server := NewServer(&Inference{Table: table, Store: store, Name: "galley"}, controlpb.UnimplementedControlServer{}, quiet())
	client := listen(t, server.Serve, func() { server.Shutdown(context.Background()) })
	request := &inferencepb.ModelInferRequest{
		ModelName: "noop", Inputs: []*input{{Name: "x", Datatype: "FP32", Shape: []int64{1, 16}}},
		RawInputContents: [][]byte{make([]byte, 64)},
	}
	type reply struct {
		at      time.Time
		took    time.Duration
		version string
	}
	// load sends requests while during runs.
	load := func(during func()) []reply {
		var mu sync.Mutex
		var replies []reply
		stop := make(chan struct{})
		var senders sync.WaitGroup
		senders.Go(func() {
			var requests sync.WaitGroup
			defer requests.Wait()
			begun := time.Now()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				due := begun.Add(time.Duration(i) * time.Second / perSecond)
				time.Sleep(time.Until(due))
				requests.Go(func() {
					a, err := client.ModelInfer(context.Background(), request)
					if err != nil {
						t.Error(err)
						return
					}
					now := time.Now()
					mu.Lock()
					defer mu.Unlock()
					replies = append(replies, reply{now, now.Sub(due), a.GetModelVersion()})
				})
			}
		})
		during()
		close(stop)
		senders.Wait()
		return replies
	}
	p99 := func(replies []reply) time.Duration {
		var all []time.Duration
		for _, r := range replies {
			all = append(all, r.took)
		}
		slices.Sort(all)
		return all[len(all)*99/100]
	}
	point := func(target int) {
		store.point(target)
		if err := table.Follow(t.Context(), "noop"); err != nil {
			t.Fatal(err)
		}
	}
	point(2)
	point(1)
	load(func() { time.Sleep(500 * time.Millisecond) })
	still := load(func() { time.Sleep(rollbacks * apart) })
	versions := []string{"1", "2"}
	var commands []time.Time
	moved := load(func() {
		for i := range rollbacks {
			time.Sleep(apart)
			commands = append(commands, time.Now())
			point(2 - i%2)
		}
		time.Sleep(apart)
	})
	var lasted []time.Duration
	for i, command := range commands {
		old, last := versions[i%2], command
		for _, r := range moved {
			if r.version == old && r.at.After(last) && r.at.Before(command.Add(apart)) {
				last = r.at
			}
		}
		lasted = append(lasted, last.Sub(command))
	}
	slices.Sort(lasted)
	t.Logf("%d requests; from command to the last old answer: median %v, p99 %v", len(moved), lasted[len(lasted)/2], lasted[len(lasted)*99/100])
	t.Logf("p99 of requests: %v with switches, %v without", p99(moved), p99(still))
	if worst := lasted[len(lasted)*99/100]; worst > 50*time.Millisecond {
		t.Errorf("an old version answers %v after the command", worst)
	}
}

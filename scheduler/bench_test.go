//go:build bench

package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestBenchPlan measures one plan for 10,000 queued jobs over 100 full nodes,
// 20 tenants with quotas, a fifth of the jobs gangs, when a tenth of the nodes'
// jobs have just ended.
func TestBenchPlan(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var s Snapshot
	for i := range 100 {
		s.Nodes = append(s.Nodes, Node{fmt.Sprint("node", i), Resources{CPU: 64 * core, Memory: 256 * gib, GPU: 8}})
	}
	tenant := func() string { return fmt.Sprint("tenant", r.IntN(20)) }
	for i := range 20 {
		s.Tenants = append(s.Tenants, Tenant{fmt.Sprint("tenant", i), 1 + r.Int64N(3), Resources{CPU: 1200 * core, GPU: 100}})
	}
	draw := func(id string, i int) Job {
		j := Job{ID: id, Tenant: tenant(), Priority: 10 * r.IntN(10), Submitted: int64(i), Pods: 1,
			Pod: Resources{CPU: core * (1 + r.Int64N(16)), Memory: gib * (1 + r.Int64N(64)), GPU: r.Int64N(5)}}
		if r.IntN(5) == 0 {
			j.Pods = 2 + r.IntN(31)
		}
		return j
	}
	free := make([]Resources, len(s.Nodes))
	for i := range free {
		free[i] = s.Nodes[i].Capacity
	}
	for i := range 4000 {
		j := draw(fmt.Sprint("running", i), i)
		j.Pods = 1
		if n := r.IntN(len(free)); free[n].holds(j.Pod) {
			free[n] = free[n].minus(j.Pod)
			if r.IntN(10) > 0 {
				s.Running = append(s.Running, Running{Job: j, Nodes: []string{s.Nodes[n].ID}, Preemptible: true, Lost: time.Duration(r.IntN(3600)) * time.Second, Started: int64(i)})
			}
		}
	}
	for i := range 10_000 {
		s.Queued = append(s.Queued, draw(fmt.Sprint("queued", i), 10_000+i))
	}
	var took []time.Duration
	var p Plan
	for range 21 {
		began := time.Now()
		p = Schedule(s)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("%d run, %d wait: %d started, %d preempted; one plan takes %v (median of %d, worst %v)",
		len(s.Running), len(s.Queued), len(p.Start), len(p.Preempt), took[len(took)/2], len(took), took[len(took)-1])
	if took[len(took)/2] > 50*time.Millisecond {
		t.Error("a plan has to take at most 50 ms")
	}
}

package scheduler

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const core, gib = 1000, int64(1) << 30

func cpus(n int64) Resources { return Resources{CPU: n * core} }

func one(capacity Resources) []Node { return []Node{{ID: "this machine", Capacity: capacity}} }

func on(j Job, nodes ...string) Running { return Running{Job: j, Nodes: nodes, Preemptible: true} }

func TestSchedule(t *testing.T) {
	here := "this machine"
	for _, c := range []struct {
		name string
		s    Snapshot
		want Plan
	}{
		{"nothing", Snapshot{}, Plan{}},
		{"starts what fits, the older first", Snapshot{Nodes: one(cpus(4)), Queued: []Job{
			{ID: "b", Pod: cpus(2), Submitted: 2}, {ID: "a", Pod: cpus(2), Submitted: 1}, {ID: "c", Pod: cpus(2), Submitted: 3},
		}}, Plan{
			Start:    []Start{{"a", []string{here}}, {"b", []string{here}}},
			Waiting:  []Waiting{{Job: "c", Place: 1, Reason: Capacity, Kind: CPU, Need: 2 * core, By: []string{"a", "b"}}},
			Reserved: &Claim{Job: "c", Nodes: []string{here}},
		}},
		{"a higher priority goes first", Snapshot{Nodes: one(cpus(2)), Queued: []Job{
			{ID: "low", Pod: cpus(2), Submitted: 1, Priority: 10}, {ID: "high", Pod: cpus(2), Submitted: 2, Priority: 20},
		}}, Plan{
			Start:    []Start{{"high", []string{here}}},
			Waiting:  []Waiting{{Job: "low", Place: 1, Reason: Capacity, Kind: CPU, Need: 2 * core, By: []string{"high"}}},
			Reserved: &Claim{Job: "low", Nodes: []string{here}},
		}},
		{"memory counts", Snapshot{Nodes: one(Resources{CPU: 4 * core, Memory: 8 * gib}), Queued: []Job{
			{ID: "a", Pod: Resources{CPU: core, Memory: 6 * gib}, Submitted: 1}, {ID: "b", Pod: Resources{CPU: core, Memory: 6 * gib}, Submitted: 2},
		}}, Plan{
			Start:    []Start{{"a", []string{here}}},
			Waiting:  []Waiting{{Job: "b", Place: 1, Reason: Capacity, Kind: Memory, Need: 6 * gib, Free: 2 * gib, By: []string{"a"}}},
			Reserved: &Claim{Job: "b", Nodes: []string{here}},
		}},
		{"a large job keeps its reservation from small ones", Snapshot{Nodes: one(cpus(4)),
			Running: []Running{on(Job{ID: "r", Pod: cpus(2)}, here)},
			Queued:  []Job{{ID: "large", Pod: cpus(4), Submitted: 1}, {ID: "small", Pod: cpus(1), Submitted: 2}},
		}, Plan{
			Waiting: []Waiting{
				{Job: "large", Place: 1, Reason: Capacity, Kind: CPU, Need: 4 * core, Free: 2 * core, By: []string{"r"}},
				{Job: "small", Place: 2, Reason: Reservation, By: []string{"large"}},
			},
			Reserved: &Claim{Job: "large", Nodes: []string{here}},
		}},
		{"small ones fill what a reservation leaves", Snapshot{Nodes: one(cpus(4)),
			Running: []Running{on(Job{ID: "r", Pod: cpus(2)}, here)},
			Queued:  []Job{{ID: "large", Pod: cpus(3), Submitted: 1}, {ID: "small", Pod: cpus(1), Submitted: 2}, {ID: "more", Pod: cpus(1), Submitted: 3}},
		}, Plan{
			Start: []Start{{"small", []string{here}}},
			Waiting: []Waiting{
				{Job: "large", Place: 1, Reason: Capacity, Kind: CPU, Need: 3 * core, Free: core, By: []string{"r", "small"}},
				{Job: "more", Place: 2, Reason: Reservation, By: []string{"large"}},
			},
			Reserved: &Claim{Job: "large", Nodes: []string{here}},
		}},
		{"the tenant with less goes first", Snapshot{Nodes: one(cpus(3)),
			Running: []Running{on(Job{ID: "r", Tenant: "sport", Pod: cpus(2)}, here)},
			Queued:  []Job{{ID: "s", Tenant: "sport", Pod: cpus(1), Submitted: 1}, {ID: "p", Tenant: "politics", Pod: cpus(1), Submitted: 2}},
		}, Plan{
			Start:    []Start{{"p", []string{here}}},
			Waiting:  []Waiting{{Job: "s", Place: 1, Reason: Capacity, Kind: CPU, Need: core, By: []string{"r", "p"}}},
			Reserved: &Claim{Job: "s", Nodes: []string{here}},
		}},
		{"quota", Snapshot{Nodes: one(cpus(8)), Tenants: []Tenant{{Name: "sport", Quota: cpus(2)}}, Queued: []Job{
			{ID: "a", Tenant: "sport", Pod: cpus(1), Submitted: 1}, {ID: "b", Tenant: "sport", Pod: cpus(2), Submitted: 2},
			{ID: "c", Tenant: "sport", Pod: cpus(1), Submitted: 3}, {ID: "d", Tenant: "sport", Pod: cpus(3), Submitted: 4},
		}}, Plan{
			Start: []Start{{"a", []string{here}}},
			Waiting: []Waiting{
				{Job: "b", Place: 1, Reason: Quota, Kind: CPU, Need: 2 * core, Free: core, By: []string{"a"}},
				{Job: "c", Place: 2, Reason: Quota, Kind: CPU, Need: core, By: []string{"a"}},
				{Job: "d", Reason: OverQuota, Kind: CPU, Need: 3 * core, Free: 2 * core},
			},
		}},
		{"what may not start holds no one up", Snapshot{Nodes: one(cpus(2)), Queued: []Job{
			{ID: "needs", Pod: cpus(2), Submitted: 1, Needs: []string{"x"}}, {ID: "waits", Pod: cpus(2), Submitted: 2, Until: time.Unix(9, 0)},
			{ID: "huge", Pod: cpus(3), Submitted: 3}, {ID: "a", Pod: cpus(2), Submitted: 4},
		}}, Plan{
			Start: []Start{{"a", []string{here}}},
			Waiting: []Waiting{
				{Job: "needs", Reason: Dependency, By: []string{"x"}},
				{Job: "waits", Reason: BackOff, Until: time.Unix(9, 0)},
				{Job: "huge", Reason: TooLarge, Kind: CPU, Need: 3 * core, Free: 2 * core},
			},
		}},
		{"preempts the least work lost", Snapshot{Nodes: one(cpus(4)), Running: []Running{
			{Job: Job{ID: "old", Pod: cpus(2), Priority: 10}, Nodes: []string{here}, Preemptible: true, Lost: time.Hour},
			{Job: Job{ID: "new", Pod: cpus(2), Priority: 10}, Nodes: []string{here}, Preemptible: true, Lost: time.Minute},
		}, Queued: []Job{{ID: "high", Pod: cpus(2), Priority: 90}}}, Plan{
			Preempt:  []Preemption{{"new", "high"}},
			Waiting:  []Waiting{{Job: "high", Place: 1, Reason: Capacity, Kind: CPU, Need: 2 * core, By: []string{"new", "old"}}},
			Reserved: &Claim{Job: "high", Nodes: []string{here}},
		}},
		{"preempts no one while someone leaves", Snapshot{Nodes: one(cpus(4)), Running: []Running{
			{Job: Job{ID: "old", Pod: cpus(2), Priority: 10}, Nodes: []string{here}, Preemptible: true},
			{Job: Job{ID: "new", Pod: cpus(2), Priority: 10}, Nodes: []string{here}, Preemptible: true, Leaving: true},
		}, Queued: []Job{{ID: "high", Pod: cpus(2), Priority: 90}}}, Plan{
			Waiting:  []Waiting{{Job: "high", Place: 1, Reason: Capacity, Kind: CPU, Need: 2 * core, By: []string{"new", "old"}}},
			Reserved: &Claim{Job: "high", Nodes: []string{here}},
		}},
		{"preempts no equal, and no one in vain", Snapshot{Nodes: one(cpus(4)), Running: []Running{
			{Job: Job{ID: "equal", Pod: cpus(2), Priority: 50}, Nodes: []string{here}, Preemptible: true},
			{Job: Job{ID: "low", Pod: cpus(1), Priority: 10}, Nodes: []string{here}, Preemptible: true},
			{Job: Job{ID: "aged", Pod: cpus(1), Priority: 10, Aged: 40}, Nodes: []string{here}, Preemptible: true},
		}, Queued: []Job{{ID: "a", Pod: cpus(2), Priority: 50}}}, Plan{
			Waiting:  []Waiting{{Job: "a", Place: 1, Reason: Capacity, Kind: CPU, Need: 2 * core, By: []string{"equal", "aged", "low"}}},
			Reserved: &Claim{Job: "a", Nodes: []string{here}},
		}},
		{"a gang starts whole", Snapshot{Nodes: []Node{{"a", cpus(4)}, {"b", cpus(4)}}, Queued: []Job{
			{ID: "gang", Pods: 3, Pod: cpus(2), Submitted: 1}, {ID: "four", Pods: 4, Pod: cpus(1), Submitted: 2},
		}}, Plan{
			Start:    []Start{{"gang", []string{"a", "a", "b"}}},
			Waiting:  []Waiting{{Job: "four", Place: 1, Reason: Capacity, Kind: CPU, Need: 4 * core, Free: 2 * core, By: []string{"gang"}}},
			Reserved: &Claim{Job: "four", Nodes: []string{"a", "a", "b", "b"}},
		}},
		{"enough in all, on no machine", Snapshot{Nodes: []Node{{"a", cpus(4)}, {"b", cpus(4)}}, Running: []Running{
			on(Job{ID: "r", Pods: 2, Pod: cpus(2)}, "a", "b"),
		}, Queued: []Job{{ID: "j", Pod: cpus(3)}}}, Plan{
			Waiting:  []Waiting{{Job: "j", Place: 1, Reason: Capacity, Kind: CPU, Need: 3 * core, Free: 4 * core, Scattered: true, By: []string{"r"}}},
			Reserved: &Claim{Job: "j", Nodes: []string{"a"}},
		}},
		{"GPUs are kept for who needs them", Snapshot{Nodes: []Node{
			{"gpu", Resources{CPU: 4 * core, GPU: 1}}, {"plain", cpus(64)}}, Queued: []Job{{ID: "j", Pod: cpus(4)}, {ID: "g", Pod: Resources{CPU: core, GPU: 1}, Submitted: 1}},
		}, Plan{Start: []Start{{"j", []string{"plain"}}, {"g", []string{"gpu"}}}}},
	} {
		if got := Schedule(c.s); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n%+v, want\n%+v", c.name, got, c.want)
		}
	}
}

// snapshots draws what may be scheduled: some machines, some jobs that run on
// them without over-commitment, some that wait.
func snapshots(t *rapid.T) Snapshot {
	var s Snapshot
	amount := func(name string, most int64) Resources {
		return Resources{
			CPU:    rapid.Int64Range(0, most).Draw(t, name+" cpu"),
			Memory: rapid.Int64Range(0, most).Draw(t, name+" memory"),
			GPU:    rapid.Int64Range(0, most/4).Draw(t, name+" gpu"),
		}
	}
	tenants := []string{"", "sport", "politics"}
	free := map[string]Resources{}
	for i := range rapid.IntRange(1, 4).Draw(t, "nodes") {
		n := Node{ID: fmt.Sprint("n", i), Capacity: amount("capacity", 16)}
		s.Nodes, free[n.ID] = append(s.Nodes, n), n.Capacity
	}
	for _, name := range tenants[:rapid.IntRange(0, 3).Draw(t, "tenants")] {
		s.Tenants = append(s.Tenants, Tenant{Name: name, Weight: rapid.Int64Range(0, 3).Draw(t, "weight"), Quota: amount("quota", 12)})
	}
	draw := func(id string, i int) Job {
		return Job{
			ID: id, Tenant: rapid.SampledFrom(tenants).Draw(t, "tenant"), Priority: rapid.IntRange(0, 2).Draw(t, "priority"),
			Aged: rapid.IntRange(0, 1).Draw(t, "aged"),
			Pods: rapid.IntRange(0, 3).Draw(t, "pods"), Pod: amount("pod", 8), Submitted: int64(i),
		}
	}
	for i := range rapid.IntRange(0, 6).Draw(t, "running") {
		r := Running{
			Job: draw(fmt.Sprint("r", i), i), Preemptible: rapid.Bool().Draw(t, "preemptible"), Leaving: rapid.Bool().Draw(t, "leaving"), Started: int64(i),
			Lost: time.Duration(rapid.IntRange(0, 100).Draw(t, "lost")) * time.Second,
		}
		for range max(1, r.Pods) {
			for _, n := range s.Nodes {
				if free[n.ID].holds(r.Pod) {
					r.Nodes, free[n.ID] = append(r.Nodes, n.ID), free[n.ID].minus(r.Pod)
					break
				}
			}
		}
		if len(r.Nodes) == max(1, r.Pods) {
			s.Running = append(s.Running, r)
		} else { // it did not fit; what it took is left unused
			for _, id := range r.Nodes {
				free[id] = free[id].plus(r.Pod)
			}
		}
	}
	for i := range rapid.IntRange(0, 12).Draw(t, "queued") {
		j := draw(fmt.Sprint("q", i), 10+i)
		if rapid.IntRange(0, 9).Draw(t, "waits") == 0 {
			j.Needs = []string{"x"}
		}
		s.Queued = append(s.Queued, j)
	}
	if len(s.Queued) > 0 && rapid.Bool().Draw(t, "reserved") {
		s.Reserved = &Claim{Job: rapid.SampledFrom(s.Queued).Draw(t, "holder").ID, Since: rapid.Int64Range(0, 6).Draw(t, "since")}
		for range rapid.IntRange(0, 3).Draw(t, "claimed") {
			s.Reserved.Nodes = append(s.Reserved.Nodes, rapid.SampledFrom(s.Nodes).Draw(t, "node").ID)
		}
	}
	return s
}

func jobsOf(s Snapshot) map[string]Job {
	jobs := map[string]Job{}
	for _, j := range s.Queued {
		jobs[j.ID] = j
	}
	for _, r := range s.Running {
		jobs[r.ID] = r.Job
	}
	return jobs
}

// perform is the snapshot after a plan.
func perform(s Snapshot, p Plan) Snapshot {
	jobs := jobsOf(s)
	s.Running, s.Reserved = slices.Clone(s.Running), p.Reserved
	for _, v := range p.Preempt {
		for i := range s.Running {
			if s.Running[i].ID == v.Job {
				s.Running[i].Leaving = true
			}
		}
	}
	started, last := map[string]bool{}, int64(0)
	for _, r := range s.Running {
		last = max(last, r.Started)
	}
	for _, start := range p.Start {
		started[start.Job] = true
		last++
		s.Running = append(s.Running, Running{Job: jobs[start.Job], Nodes: start.Nodes, Preemptible: true, Started: last})
	}
	s.Queued = slices.DeleteFunc(slices.Clone(s.Queued), func(j Job) bool { return started[j.ID] })
	return s
}

func holder(p Plan) string {
	if p.Reserved == nil {
		return ""
	}
	return p.Reserved.Job
}

// use sums what runs, by node and by tenant.
func use(s Snapshot) (nodes, tenants map[string]Resources) {
	nodes, tenants = map[string]Resources{}, map[string]Resources{}
	for _, r := range s.Running {
		tenants[r.Tenant] = tenants[r.Tenant].plus(r.Pod.times(int64(max(1, r.Pods))))
		for _, id := range r.Nodes {
			nodes[id] = nodes[id].plus(r.Pod)
		}
	}
	return nodes, tenants
}

func check(t interface{ Fatalf(string, ...any) }, s Snapshot, p Plan) {
	jobs := jobsOf(s)
	after := perform(s, p)
	nodes, tenants := use(after)
	for _, n := range s.Nodes {
		if !n.Capacity.holds(nodes[n.ID]) {
			t.Fatalf("node %s has %v and is given %v: %+v", n.ID, n.Capacity, nodes[n.ID], p)
		}
	}
	for _, q := range s.Tenants {
		grew := slices.ContainsFunc(p.Start, func(start Start) bool { return jobs[start.Job].Tenant == q.Name })
		for k, quota := range q.Quota {
			if grew && quota > 0 && tenants[q.Name][k] > quota && tenants[q.Name][k] > usedBefore(s, q.Name)[k] {
				t.Fatalf("tenant %s has a quota of %v and is given %v", q.Name, q.Quota, tenants[q.Name])
			}
		}
	}
	if len(p.Start)+len(p.Waiting) != len(s.Queued) {
		t.Fatalf("%d jobs of %d start or wait", len(p.Start)+len(p.Waiting), len(s.Queued))
	}
	for _, start := range p.Start {
		if j := jobs[start.Job]; len(start.Nodes) != max(1, j.Pods) || len(j.Needs) > 0 {
			t.Fatalf("%+v is started on %v", j, start.Nodes)
		}
	}
	for _, w := range p.Waiting {
		if w.Reason == "" {
			t.Fatalf("no reason: %+v", w)
		}
	}
	for _, v := range p.Preempt {
		i := slices.IndexFunc(s.Running, func(r Running) bool { return r.ID == v.Job })
		r, by := s.Running[i], jobs[v.For]
		if r.Rank() >= by.Priority || !r.Preemptible || r.Leaving {
			t.Fatalf("%+v is preempted for %+v", r, by)
		}
	}
}

func usedBefore(s Snapshot, tenant string) Resources {
	_, tenants := use(s)
	return tenants[tenant]
}

func TestPlanIsSound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := snapshots(t)
		p := Schedule(s)
		jobs := jobsOf(s)
		check(t, s, p)

		if again := Schedule(s); !reflect.DeepEqual(again, p) {
			t.Fatalf("not the same plan again:\n%+v\n%+v", p, again)
		}
		shuffled := s
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		shuffled.Nodes, shuffled.Tenants = slices.Clone(s.Nodes), slices.Clone(s.Tenants)
		shuffled.Running, shuffled.Queued = slices.Clone(s.Running), slices.Clone(s.Queued)
		r.Shuffle(len(s.Nodes), reflect.Swapper(shuffled.Nodes))
		r.Shuffle(len(s.Tenants), reflect.Swapper(shuffled.Tenants))
		r.Shuffle(len(s.Running), reflect.Swapper(shuffled.Running))
		r.Shuffle(len(s.Queued), reflect.Swapper(shuffled.Queued))
		if other := Schedule(shuffled); !reflect.DeepEqual(other, p) {
			t.Fatalf("another plan in another order:\n%+v\n%+v", p, other)
		}

		// A plan that was performed leaves nothing to do.
		after := perform(s, p)
		if next := Schedule(after); len(next.Start) > 0 || len(next.Preempt) > 0 || holder(next) != holder(p) {
			t.Fatalf("the plan was %+v, and then there is %+v", p, next)
		}

		// The first job that does not fit would not fit either if none of a
		// lower rank had started.
		if p.Reserved != nil {
			first := jobs[p.Reserved.Job]
			without := perform(s, Plan{Start: slices.DeleteFunc(slices.Clone(p.Start), func(start Start) bool { return jobs[start.Job].Rank() < first.Rank() })})
			used, _ := use(without)
			fits := int64(0)
			for _, n := range s.Nodes {
				fits += n.Capacity.minus(used[n.ID]).count(first.Pod, 100)
			}
			if fits >= int64(max(1, first.Pods)) {
				t.Fatalf("%+v waits, and others of a lower rank start: %+v", first, p)
			}
		}

		// No one waits for capacity that there is.
		nodes, _ := use(after)
		for _, w := range p.Waiting {
			if j := jobs[w.Job]; w.Reason == Capacity {
				fits := int64(0)
				for _, n := range s.Nodes {
					fits += n.Capacity.minus(nodes[n.ID]).count(j.Pod, 100)
				}
				if fits >= int64(max(1, j.Pods)) {
					t.Fatalf("%+v waits for capacity, and there is some", w)
				}
			}
		}
	})
}

// What one reservation makes wait for never grows, however many small jobs
// come: a large job of each tenant starts, and every job ends.
func TestNoStarvation(t *testing.T) {
	for seed := range uint64(20) {
		nodes := []Node{{"a", cpus(8)}, {"b", cpus(8)}}
		r := rand.New(rand.NewPCG(seed, 1))
		tenants := []string{"sport", "politics", "culture"}
		w := &world{nodes: nodes, left: map[string]int{}}
		// Large gangs come once, small jobs all the time and enough of them
		// to fill the machines for ever.
		for i, tenant := range tenants {
			w.submit(Job{ID: "large-" + tenant, Tenant: tenant, Pods: 2, Pod: cpus(int64(6 + i%3))}, 5)
		}
		for step := range 400 {
			for len(w.queued) < 40 {
				w.submit(Job{ID: fmt.Sprint("small-", w.submitted), Tenant: tenants[r.IntN(3)], Pod: cpus(1 + r.Int64N(3))}, 1+r.IntN(12))
			}
			w.tick(t)
			if step == 150 {
				for _, tenant := range tenants {
					w.submit(Job{ID: "late-" + tenant, Tenant: tenant, Pods: 2, Pod: cpus(8)}, 5)
				}
			}
		}
		for _, tenant := range tenants {
			for _, name := range []string{"large-", "late-"} {
				if !slices.Contains(w.done, name+tenant) {
					t.Fatalf("%s%s never ran", name, tenant)
				}
			}
		}
	}
}

// A world runs plans in ticks; how long jobs run is its secret.
type world struct {
	nodes     []Node
	tenants   []Tenant
	submitted int64
	queued    []Job
	running   []Running
	left      map[string]int // ticks
	reserved  *Claim
	done      []string
}

func (w *world) submit(j Job, ticks int) {
	w.submitted++
	j.Submitted = w.submitted
	w.queued = append(w.queued, j)
	w.left[j.ID] = ticks
}

func (w *world) tick(t interface{ Fatalf(string, ...any) }) {
	w.running = slices.DeleteFunc(w.running, func(r Running) bool {
		if r.Leaving {
			r.Aged = 0
			w.queued = append(w.queued, r.Job)
			return true
		}
		w.left[r.ID]--
		if w.left[r.ID] <= 0 {
			w.done = append(w.done, r.ID)
			return true
		}
		return false
	})
	s := Snapshot{Nodes: w.nodes, Tenants: w.tenants, Running: w.running, Queued: w.queued, Reserved: w.reserved}
	p := Schedule(s)
	check(t, s, p)
	after := perform(s, p)
	w.running, w.queued, w.reserved = after.Running, after.Queued, after.Reserved
}

// Under preemption each job still comes to its end, and no two jobs displace
// each other in turns: a preemption always serves a higher priority.
func TestPreemptionEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{nodes: []Node{{"a", cpus(4)}, {"b", cpus(4)}}, left: map[string]int{}}
		n := rapid.IntRange(1, 30).Draw(t, "jobs")
		for i := range n {
			w.submit(Job{
				ID: fmt.Sprint("j", i), Tenant: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "tenant"),
				Priority: rapid.IntRange(0, 3).Draw(t, "priority"), Pods: rapid.IntRange(1, 2).Draw(t, "pods"),
				Pod: cpus(rapid.Int64Range(1, 4).Draw(t, "cpus")),
			}, rapid.IntRange(1, 5).Draw(t, "ticks"))
			w.tick(t)
		}
		for range 40 * n {
			w.tick(t)
		}
		if len(w.done) != n {
			t.Fatalf("%d jobs of %d came to an end", len(w.done), n)
		}
	})
}

// Two tenants who always want more than there is get the same, by weight.
func TestFairShare(t *testing.T) {
	for _, weight := range []int64{1, 3} {
		w := &world{nodes: one(cpus(16)), left: map[string]int{}, tenants: []Tenant{{Name: "b", Weight: weight}}}
		used := map[string]int64{}
		for step := range 100 {
			for i := range 10 {
				w.submit(Job{ID: fmt.Sprint("a", step, "-", i), Tenant: "a", Pod: cpus(2)}, 1+i%3)
				w.submit(Job{ID: fmt.Sprint("b", step, "-", i), Tenant: "b", Pod: cpus(1)}, 1+i%3)
			}
			w.tick(t)
			for _, r := range w.running {
				if step > 20 {
					used[r.Tenant] += r.Pod[CPU]
				}
			}
		}
		if ratio := float64(used["b"]) / float64(used["a"]); ratio < 0.8*float64(weight) || ratio > 1.25*float64(weight) {
			t.Errorf("with a weight of %d, b used %.2f times what a used", weight, ratio)
		}
	}
}

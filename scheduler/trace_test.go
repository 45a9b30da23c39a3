package scheduler

import (
	"encoding/csv"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// openTrace reads a file of the cluster traces beside the repository, or
// skips: rows by the names of their columns.
func openTrace(t *testing.T, name string) []map[string]string {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "shared", "data", "gpu_trace", name))
	if err != nil {
		t.Skip("the cluster traces are not on this machine")
	}
	defer f.Close()
	r := csv.NewReader(f)
	head, err := r.Read()
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]string
	for {
		record, err := r.Read()
		if err == io.EOF {
			return rows
		}
		if err != nil {
			t.Fatal(err)
		}
		row := map[string]string{}
		for i, name := range head {
			row[name] = record[i]
		}
		rows = append(rows, row)
	}
}

func amount(t *testing.T, row map[string]string, name string) int64 {
	t.Helper()
	f, err := strconv.ParseFloat(row[name], 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return int64(f)
}

// a traced job arrives, and runs so long.
type traced struct {
	Job
	arrives, runs float64
}

// TestTrace runs requests and machines of a public GPU cluster with run times
// of another, under this scheduler and under first come, first served. The
// load is what the jobs need of the GPUs' time while they arrive.
func TestTrace(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates some thousand jobs")
	}
	const jobs, load = 1000, 1.3
	r := rand.New(rand.NewPCG(7, 7))
	var nodes []Node
	gpus := int64(0)
	for i, row := range openTrace(t, "nodes.csv") {
		if i%60 == 0 {
			n := Node{row["sn"], Resources{CPU: amount(t, row, "cpu_milli"), Memory: amount(t, row, "memory_mib") << 20, GPU: amount(t, row, "gpu")}}
			nodes, gpus = append(nodes, n), gpus+n.Capacity[GPU]
		}
	}
	pods, runtimes := openTrace(t, "pods.csv"), openTrace(t, "philly_runtimes.csv")
	var all []traced
	work := 0.0
	for i := range jobs {
		row := pods[r.IntN(len(pods))]
		j := traced{Job: Job{ID: fmt.Sprint("job", i), Tenant: fmt.Sprint("tenant", r.IntN(4)), Submitted: int64(i),
			Pod: Resources{CPU: amount(t, row, "cpu_milli"), Memory: amount(t, row, "memory_mib") << 20, GPU: amount(t, row, "num_gpu")}},
			runs: 1 + float64(amount(t, runtimes[r.IntN(len(runtimes))], "runtime"))}
		if r.IntN(10) == 0 && j.Pod[GPU] > 0 {
			j.Pods = 2 + r.IntN(3) // the trace has no gangs
		}
		all, work = append(all, j), work+j.runs*float64(j.Pod[GPU]*int64(max(1, j.Pods)))
	}
	gap, at := work/float64(gpus)/load/jobs, 0.0
	for i := range all {
		at += r.ExpFloat64() * gap
		all[i].arrives = at
	}
	var report [2]outcome
	for i, plan := range []func(Snapshot) Plan{firstCome, Schedule} {
		report[i] = simulate(t, nodes, all, plan)
	}
	fifo, ours := report[0], report[1]
	t.Logf("%d jobs, %d nodes, %d GPUs, load %.1f", jobs, len(nodes), gpus, load)
	t.Logf("first come, first served: mean wait %6.0f s, makespan %.0f s, GPUs busy while jobs arrive %.0f %%", fifo.wait, fifo.makespan, 100*fifo.busy/float64(gpus))
	t.Logf("this scheduler:           mean wait %6.0f s, makespan %.0f s, GPUs busy while jobs arrive %.0f %%", ours.wait, ours.makespan, 100*ours.busy/float64(gpus))
	if ours.wait > fifo.wait {
		t.Errorf("jobs wait %.0f s in the mean, and %.0f s in the order of their arrival", ours.wait, fifo.wait)
	}
}

type outcome struct{ wait, makespan, busy float64 }

func simulate(t *testing.T, nodes []Node, jobs []traced, plan func(Snapshot) Plan) (o outcome) {
	byID := map[string]traced{}
	for _, j := range jobs {
		byID[j.ID] = j
	}
	type ending struct {
		at  float64
		job string
	}
	s := Snapshot{Nodes: nodes}
	var ends []ending
	now, gpuTime, next, done := 0.0, 0.0, 0, 0
	last := jobs[len(jobs)-1].arrives
	for done < len(jobs) {
		switch {
		case len(ends) > 0 && (next == len(jobs) || ends[0].at <= jobs[next].arrives):
			now = ends[0].at
			s.Running = slices.DeleteFunc(slices.Clone(s.Running), func(r Running) bool { return r.ID == ends[0].job })
			ends, done = ends[1:], done+1
		case next < len(jobs):
			now = jobs[next].arrives
			s.Queued = append(slices.Clone(s.Queued), jobs[next].Job)
			next++
		default:
			t.Fatalf("%d jobs never start", len(s.Queued))
		}
		p := plan(s)
		check(t, s, p)
		s = perform(s, p)
		for _, start := range p.Start {
			j := byID[start.Job]
			o.wait += (now - j.arrives) / float64(len(jobs))
			gpuTime += max(0, min(j.runs, last-now)) * float64(j.Pod[GPU]*int64(max(1, j.Pods)))
			e := ending{now + j.runs, j.ID}
			i, _ := slices.BinarySearchFunc(ends, e, func(a, b ending) int {
				if a.at < b.at {
					return -1
				}
				return 1
			})
			ends = slices.Insert(ends, i, e)
		}
	}
	o.makespan, o.busy = now, gpuTime/last
	return o
}

// firstCome starts jobs in the order of their arrival while they fit.
func firstCome(s Snapshot) Plan {
	p := newPlanner(s)
	for i, j := range p.queue {
		nodes := p.place(j.shape, p.room)
		if nodes == nil {
			for _, rest := range p.queue[i:] {
				p.plan.Waiting = append(p.plan.Waiting, Waiting{Job: rest.ID, Reason: Reservation})
			}
			break
		}
		p.start(j, nodes)
	}
	for _, j := range p.held {
		p.plan.Waiting = append(p.plan.Waiting, j.wait)
	}
	return p.plan
}

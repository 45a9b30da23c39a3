package control

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"galley/scheduler"
	"galley/trainer"
)

// thisMachine is the node that attempts run on.
const thisMachine = "this machine"

const (
	// ageEvery is how long a job waits for a point of priority, so that no
	// priority starves another for ever.
	ageEvery = 10 * time.Minute
	// maxPreemptions is how often a job makes room before it is left alone.
	maxPreemptions = 3
	// settle is how long an attempt runs at least before it makes room: it
	// has only just prepared its data.
	settle = 30 * time.Second
)

// A board has what scheduling needs of the jobs that wait or run: it is read
// at each pass, and the store only at the start. It learns of a change from
// whoever stored it.
type board struct {
	mu       sync.Mutex
	capacity scheduler.Resources
	tenants  []scheduler.Tenant
	settle   time.Duration
	tickets  map[string]*ticket
	needed   map[string]needed // jobs that others wait for
	reserved *scheduler.Claim
	restored int64 // jobs that were there before this server
	numbers  int64 // those and the submissions since
	starts   int64
	changed  bool            // since the last plan
	doubts   map[string]bool // jobs whose last write may or may not have been stored
}

// A ticket is a job on the board.
type ticket struct {
	job        scheduler.Job
	generation int64
	phase      trainer.Phase
	leaving    bool
	needs      []string
	queuedAt   time.Time
	notBefore  time.Time
	preempted  int
	// Of the attempt that runs:
	start      int64 // in the order of starts
	startedAt  time.Time
	checkpoint int
	savedAt    time.Time // when the last checkpoint was stored
}

type needed struct {
	generation int64
	phase      trainer.Phase
}

func newBoard(capacity scheduler.Resources, tenants []scheduler.Tenant) *board {
	return &board{capacity: capacity, tenants: tenants, settle: settle, tickets: map[string]*ticket{}, needed: map[string]needed{}, doubts: map[string]bool{}, numbers: 1 << 32}
}

// put takes over a job as it was stored. Puts come in the order of the
// commits; see Control.commits.
func (b *board) put(j trainer.Job) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.take(j, &b.numbers)
}

// restore puts a job that was there before this server: older than any other,
// in the order of the calls.
func (b *board) restore(j trainer.Job) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.take(j, &b.restored)
}

func (b *board) take(j trainer.Job, numbers *int64) {
	b.noteNeeded(j.ID, j.Generation, j.Phase)
	if j.Spec.Kind == trainer.KindPipeline || j.Spec.Kind == trainer.KindFederate {
		return // it takes no resources itself
	}
	t := b.tickets[j.ID]
	if t != nil && t.generation >= j.Generation {
		return
	}
	if j.Phase.Final() {
		delete(b.tickets, j.ID)
		b.changed = b.changed || t != nil
		return
	}
	if t == nil {
		*numbers++
		t = &ticket{job: scheduler.Job{ID: j.ID, Submitted: *numbers, Pods: 1}}
		b.tickets[j.ID] = t
	}
	leaving := j.Cancelling || j.Preempting != ""
	b.changed = b.changed || t.phase != j.Phase || t.leaving != leaving
	if t.phase != trainer.Running && j.Phase == trainer.Running {
		b.starts++
		t.start, t.checkpoint = b.starts, j.Progress.Checkpoint
		t.startedAt = j.Updated
		t.savedAt = j.Updated
	}
	if j.Progress.Checkpoint > t.checkpoint {
		t.checkpoint, t.savedAt = j.Progress.Checkpoint, j.Updated
	}
	t.generation, t.phase, t.leaving = j.Generation, j.Phase, leaving
	t.needs, t.queuedAt, t.notBefore = j.Spec.Needs, j.QueuedAt, j.NotBefore
	t.job.Tenant, t.job.Priority, t.job.Pod = j.Tenant, j.Spec.Priority, b.pod(j)
	t.preempted = 0
	for _, a := range j.Attempts[min(j.Resumed, len(j.Attempts)):] {
		if a.Cause == trainer.Preempted {
			t.preempted++
		}
	}
}

// pod is what an attempt of a job takes. One that asks for more than there is
// takes all.
func (b *board) pod(j trainer.Job) scheduler.Resources {
	memory := j.Memory
	if memory == 0 { // of a galley that did not reserve any
		memory = j.Spec.MemoryNeed(0)
	}
	return scheduler.Resources{
		scheduler.CPU:    min(max(1, int64(j.Spec.Resources.CPUs))*1000, b.capacity[scheduler.CPU]),
		scheduler.Memory: min(memory, b.capacity[scheduler.Memory]),
		scheduler.GPU:    int64(j.Spec.Resources.GPUs),
	}
}

// note takes over how a job is that another one waits for.
func (b *board) note(j trainer.Job) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.needed[j.ID]; !known {
		b.needed[j.ID] = needed{}
	}
	b.noteNeeded(j.ID, j.Generation, j.Phase)
	b.changed = true
}

// doubt notes a job whose write failed: it may have been stored all the same.
func (b *board) doubt(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.doubts[id] = true
}

func (b *board) doubted() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.doubts))
}

// settled ends the doubt about a job.
func (b *board) settled(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.doubts, id)
}

// unknown are the jobs that others wait for and that were not noted yet.
func (b *board) unknown() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, t := range b.tickets {
		if t.phase != trainer.Queued {
			continue
		}
		for _, need := range t.needs {
			if _, known := b.needed[need]; !known {
				out = append(out, need)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (b *board) noteNeeded(id string, generation int64, phase trainer.Phase) {
	if n, known := b.needed[id]; known && n.generation < generation {
		b.needed[id] = needed{generation, phase}
		b.changed = true
	}
}

// A decision is a step that the scheduler wants a job to take.
type decision struct {
	job   string
	event trainer.Event
}

// missed are the jobs that wait for one that ended without success.
func (b *board) missed(now time.Time) []decision {
	var out []decision
	wanted := map[string]bool{}
	for id, t := range b.tickets {
		if t.phase != trainer.Queued {
			continue
		}
		told := false
		for _, need := range t.needs {
			wanted[need] = true
			n := b.needed[need].phase
			if !told && (n == trainer.Failed || n == trainer.Cancelled) {
				out = append(out, decision{id, trainer.NeedEnded{At: now, Need: need, Phase: n}})
				told = true
			}
		}
	}
	slices.SortFunc(out, func(a, b decision) int { return strings.Compare(a.job, b.job) })
	maps.DeleteFunc(b.needed, func(id string, _ needed) bool { return !wanted[id] })
	return out
}

// stir has the next pass make a plan: time has gone by.
func (b *board) stir() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changed = true
}

// decide makes a plan, if something changed since the last one, and returns
// the steps that it asks for.
func (b *board) decide(now time.Time) []decision {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.changed {
		return nil
	}
	b.changed = false
	out := b.missed(now)
	p := scheduler.Schedule(b.snapshot(now))
	b.reserved = p.Reserved
	for _, v := range p.Preempt {
		out = append(out, decision{v.Job, trainer.PreemptAsked{At: now, For: v.For}})
	}
	for _, s := range p.Start {
		out = append(out, decision{s.Job, trainer.Placed{At: now}})
	}
	return out
}

// trial is the plan that would be made now.
func (b *board) trial(now time.Time) (scheduler.Snapshot, scheduler.Plan) {
	b.mu.Lock()
	s := b.snapshot(now)
	b.mu.Unlock()
	return s, scheduler.Schedule(s)
}

func (b *board) snapshot(now time.Time) scheduler.Snapshot {
	s := scheduler.Snapshot{
		Nodes:   []scheduler.Node{{ID: thisMachine, Capacity: b.capacity}},
		Tenants: b.tenants, Reserved: b.reserved,
	}
	for _, t := range b.tickets {
		j := t.job
		if t.phase == trainer.Running {
			j.Aged = aged(t.queuedAt, t.startedAt, j.Priority)
			s.Running = append(s.Running, scheduler.Running{
				Job: j, Nodes: []string{thisMachine}, Started: t.start, Leaving: t.leaving,
				Preemptible: t.preempted < maxPreemptions && !within(t.startedAt, now, b.settle),
				Lost:        max(0, now.Sub(t.savedAt)),
			})
			continue
		}
		j.Aged = aged(t.queuedAt, now, j.Priority)
		for _, need := range t.needs {
			if b.needed[need].phase != trainer.Succeeded {
				j.Needs = append(j.Needs, need)
			}
		}
		// A clock that was set back to before the job was queued cannot say how
		// long it has waited: it waits no longer.
		if !now.Before(t.queuedAt) && within(now, t.notBefore, trainer.MaxBackOff+1) {
			j.Until = t.notBefore
		}
		s.Queued = append(s.Queued, j)
	}
	return s
}

// within reports whether to is not before from, and by less than so much: a clock that
// was set back makes nothing wait for longer.
func within(from, to time.Time, most time.Duration) bool {
	d := to.Sub(from)
	return d >= 0 && d < most
}

// aged is what waiting adds to a priority, up to the highest there is.
func aged(from, to time.Time, priority int) int {
	if from.IsZero() {
		return 0
	}
	return max(0, min(int(to.Sub(from)/ageEvery), 100-priority))
}

// queued is how many jobs wait.
func (b *board) queued() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, t := range b.tickets {
		if t.phase == trainer.Queued {
			n++
		}
	}
	return n
}

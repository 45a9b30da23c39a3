package serving

import (
	"context"
	"slices"
	"sync"
	"time"

	"galley"
	"galley/internal/processors"
)

// limits bound what a version runs at a time and what may wait for it.
type limits struct {
	executors int   // runs at a time
	requests  int   // that wait
	bytes     int64 // of the inputs that wait; one request alone may have more
	rows      int   // of a run; 1 joins nothing
	size      int   // of a run, padding included
}

// patience is after which time a request goes before those whose deadline is
// nearer: without a deadline, too, a request's turn comes.
const patience = 5 * time.Second

// longRun is from when on a run is not to keep others from a processor.
const longRun = time.Millisecond

// A batcher joins rows of requests that wait into runs of a graph. A row waits
// only while all executors are busy; there is no delay to gather more.
//
// Nothing runs between requests: the goroutine of a request that finds a free
// executor runs its own rows, and whoever ends a run starts the next.
type batcher[In, Out any] struct {
	name   string // of the version, in errors
	limits limits
	// run answers rows, each padded to size.
	run func(ctx context.Context, rows []In, size int) ([]Out, timing, error)

	mu       sync.Mutex
	free     int             // executors
	queue    []*row[In, Out] // by rising size
	elements int             // in the queue, the sum of its sizes
	requests int             // that have rows in the queue
	bytes    int64           // of these requests
	runs     uint64
	cost     cost
}

// A row is what a run answers at least one of.
type row[In, Out any] struct {
	call *call[In, Out]
	at   int // in the call
	in   In
	size int
}

// A call is the rows of one request.
type call[In, Out any] struct {
	ctx      context.Context
	record   *recorder
	begun    time.Time
	urgency  time.Time // the queue serves the earliest
	deadline time.Time // zero if none
	bytes    int64

	// Of the batcher, under its lock, until done is closed.
	out     []Out
	queued  int // rows
	running int // rows
	last    uint64
	times   timing
	err     error
	crash   *crash
	done    chan struct{}
}

func newBatcher[In, Out any](name string, limits limits, run func(context.Context, []In, int) ([]Out, timing, error)) *batcher[In, Out] {
	return &batcher[In, Out]{name: name, limits: limits, free: limits.executors, run: run}
}

// do answers the rows of a request, of the given sizes. It fails with
// ResourceExhausted if there is no room to wait, and with the context's code
// if that ends first; rows that wait are forgotten then, and a run that nobody
// else waits for is ended.
func (b *batcher[In, Out]) do(ctx context.Context, record *recorder, ins []In, sizes []int, bytes int64) ([]Out, timing, error) {
	now := time.Now()
	if len(ins) == 1 && b.seize() {
		return b.alone(ctx, record, ins, sizes[0], now)
	}
	c := &call[In, Out]{
		ctx: ctx, record: record, begun: now, urgency: now.Add(patience), bytes: bytes,
		out: make([]Out, len(ins)), queued: len(ins), done: make(chan struct{}),
	}
	if deadline, ok := ctx.Deadline(); ok {
		c.deadline = deadline
		if deadline.Before(c.urgency) {
			c.urgency = deadline
		}
	}
	rows := make([]*row[In, Out], len(ins))
	for i := range ins {
		rows[i] = &row[In, Out]{c, i, ins[i], sizes[i]}
	}
	mine, err := b.enter(c, rows, now)
	if err != nil {
		return nil, timing{}, err
	}
	if mine != nil {
		b.execute(mine)
		if next := b.next(mine); next != nil {
			go b.work(next)
		}
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		b.leave(c)
		<-c.done // runs that others need go on; those that nobody needs end
	}
	if c.crash != nil {
		panic(c.crash)
	}
	return c.out, c.times, c.err
}

// load is how many runs and requests there are that do not wait for others.
func (b *batcher[In, Out]) load() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limits.executors - b.free + b.requests
}

// seize takes an executor that is free while nobody waits for one.
func (b *batcher[In, Out]) seize() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.free == 0 || len(b.queue) > 0 {
		return false
	}
	b.free--
	return true
}

// alone runs a row on an executor that was seized. It does what the queue
// would come to, without the queue.
func (b *batcher[In, Out]) alone(ctx context.Context, record *recorder, ins []In, size int, now time.Time) (outs []Out, t timing, err error) {
	defer func() {
		b.mu.Lock()
		if err == nil {
			b.cost.observe(size, t.input+t.infer+t.output)
		}
		next := b.nextLocked()
		b.mu.Unlock()
		if next != nil {
			go b.work(next)
		}
	}()
	err = errPanicked
	deadline, _ := ctx.Deadline()
	b.mu.Lock()
	late := b.late(ctx, deadline, size, now)
	long := b.cost.estimate(size) > longRun
	b.mu.Unlock()
	if late != nil {
		err = late
		return nil, t, err
	}
	if outs, t, err = b.turn(ctx, ins, size, long); err == nil {
		err = b.complete(ins, outs)
	}
	if err == nil {
		record.ran(1, t)
	}
	return outs, t, err
}

// turn runs rows. Where that takes long, what is done for other requests in the
// meantime goes first, such as a refusal.
func (b *batcher[In, Out]) turn(ctx context.Context, ins []In, size int, long bool) (outs []Out, t timing, err error) {
	if !long {
		return b.run(ctx, ins, size)
	}
	processors.LongTurn(func() { outs, t, err = b.run(ctx, ins, size) })
	return outs, t, err
}

// complete checks that a run has answered each of its rows.
func (b *batcher[In, Out]) complete(ins []In, outs []Out) error {
	if len(outs) != len(ins) {
		return galley.Errorf(galley.FailedPrecondition, b.name, "the graph answers %d of %d rows", len(outs), len(ins))
	}
	return nil
}

// enter puts a call's rows into the queue and takes as much out of it as
// executors are free; the first batch is for the caller to run.
func (b *batcher[In, Out]) enter(c *call[In, Out], rows []*row[In, Out], now time.Time) (mine *batch[In, Out], err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.room(c.bytes); err != nil {
		return nil, err
	}
	b.requests++
	b.bytes += c.bytes
	c.record.waits(1)
	b.queue = append(b.queue, rows...)
	for _, r := range rows {
		b.elements += r.size
	}
	bySize := func(x, y *row[In, Out]) int { return x.size - y.size }
	if n := len(b.queue) - 1; len(rows) == 1 {
		at, _ := slices.BinarySearchFunc(b.queue[:n], rows[0], bySize)
		copy(b.queue[at+1:], b.queue[at:n])
		b.queue[at] = rows[0]
	} else {
		slices.SortStableFunc(b.queue, bySize)
	}
	for b.free > 0 {
		next := b.form(now)
		if next == nil {
			break
		}
		b.free--
		if mine == nil {
			mine = next
		} else {
			go b.work(next)
		}
	}
	return mine, nil
}

// admit refuses a request for which there is no room, before anything is spent
// on it; do looks again.
func (b *batcher[In, Out]) admit() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.room(0)
}

// room returns an error if a request of so many bytes may not wait. It says
// when there will be room: after what all executors take for what waits.
func (b *batcher[In, Out]) room(bytes int64) error {
	if b.requests == 0 || b.requests < b.limits.requests && b.bytes+bytes <= b.limits.bytes {
		return nil
	}
	wait := b.cost.estimates(len(b.queue), b.elements)
	wait = min(max(wait/time.Duration(b.limits.executors), 10*time.Millisecond), 30*time.Second)
	return galley.Errorf(galley.ResourceExhausted, b.name, "%d requests wait already", b.requests).
		WithRemedy("send fewer at a time, or try again later").WithRetry(wait)
}

// leave forgets a call's rows that wait.
func (b *batcher[In, Out]) leave(c *call[In, Out]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail(c, interrupted(b.name, c.ctx.Err()))
}

// work runs batches until none is left.
func (b *batcher[In, Out]) work(next *batch[In, Out]) {
	for next != nil {
		b.execute(next)
		next = b.next(next)
	}
}

// next ends a batch and forms another for its executor, which is free if there
// is none.
func (b *batcher[In, Out]) next(ended *batch[In, Out]) *batch[In, Out] {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range ended.rows {
		c := r.call
		if c.running--; c.running == 0 && c.queued == 0 {
			close(c.done)
		}
	}
	return b.nextLocked()
}

func (b *batcher[In, Out]) nextLocked() *batch[In, Out] {
	var next *batch[In, Out]
	if len(b.queue) > 0 {
		next = b.form(time.Now())
	}
	if next == nil {
		b.free++
	}
	return next
}

// form takes a batch out of the queue: the most urgent row, and those whose
// joining saves more than their padding costs. It fails calls that cannot be
// answered in time; nil if nothing is left.
func (b *batcher[In, Out]) form(now time.Time) *batch[In, Out] {
	for len(b.queue) > 0 {
		first := 0
		for i, r := range b.queue {
			if r.call.urgency.Before(b.queue[first].call.urgency) {
				first = i
			}
		}
		anchor := b.queue[first]
		if err := b.late(anchor.call.ctx, anchor.call.deadline, anchor.size, now); err != nil {
			b.fail(anchor.call, err)
			continue
		}
		// The other executors get their share of what waits.
		rows := min(b.limits.rows, (len(b.queue)+b.limits.executors-1)/b.limits.executors)
		size := b.limits.size
		if d := anchor.call.deadline; !d.IsZero() {
			size = min(size, max(b.cost.sizeWithin(d.Sub(now)), anchor.size))
		}
		low, high := window(b.queue, first, rows, size, b.cost.overhead())
		return b.take(low, high, now)
	}
	return nil
}

// late returns an error if a request has ended, or cannot be answered in time
// even by a run of one row alone. Each refusal makes the batcher doubt its
// estimate: nothing else would ever correct one that is too high.
func (b *batcher[In, Out]) late(ctx context.Context, deadline time.Time, size int, now time.Time) error {
	if err := ctx.Err(); err != nil {
		return interrupted(b.name, err)
	}
	if deadline.IsZero() {
		return nil
	}
	left := deadline.Sub(now)
	if left > 0 && left >= b.cost.atLeast(size) {
		return nil
	}
	if left > 0 {
		b.cost.doubt()
	}
	return galley.Errorf(galley.DeadlineExceeded, b.name, "the deadline leaves %v, which is too little", max(left, 0).Round(time.Microsecond)).
		WithRemedy("allow more time, or try again when the server is less busy")
}

// take removes rows from the queue.
func (b *batcher[In, Out]) take(low, high int, now time.Time) *batch[In, Out] {
	b.runs++
	taken := &batch[In, Out]{rows: slices.Clone(b.queue[low:high]), size: b.queue[high-1].size, number: b.runs}
	taken.long = b.cost.estimate(taken.size*len(taken.rows)) > longRun
	b.queue = slices.Delete(b.queue, low, high)
	for _, r := range taken.rows {
		b.elements -= r.size
		c := r.call
		if c.queued == len(c.out) {
			c.times.queue = now.Sub(c.begun)
		}
		if c.queued--; c.queued == 0 {
			b.left(c)
		}
		c.running++
	}
	return taken
}

// left notes that none of a call's rows waits any more.
func (b *batcher[In, Out]) left(c *call[In, Out]) {
	b.requests--
	b.bytes -= c.bytes
	c.record.waits(-1)
}

// fail ends a call: rows that wait are dropped, those that run are not waited
// for by anyone's answer.
func (b *batcher[In, Out]) fail(c *call[In, Out], err error) {
	if c.err == nil {
		c.err = err
	}
	if c.queued == 0 {
		return
	}
	b.queue = slices.DeleteFunc(b.queue, func(r *row[In, Out]) bool {
		if r.call == c {
			b.elements -= r.size
		}
		return r.call == c
	})
	c.queued = 0
	b.left(c)
	if c.running == 0 {
		close(c.done)
	}
}

// interrupted is the error of a call whose context has ended.
func interrupted(name string, err error) error {
	code := galley.CodeOf(err)
	message := "the request was cancelled"
	if code == galley.DeadlineExceeded {
		message = "the deadline has passed"
	}
	return &galley.Error{Code: code, Subject: name, Message: message, Cause: err}
}

package serving

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"galley"
)

// A double is a batcher whose runs double numbers. While gate is not nil, a
// run takes a token from it first.
type double struct {
	*batcher[int, int]
	gate    chan struct{}
	started chan []int // what each run is given; nil to not tell

	mu   sync.Mutex
	runs [][]int
}

func newDouble(l limits, gate chan struct{}) *double {
	d := &double{gate: gate, started: make(chan []int, 1000)}
	d.batcher = newBatcher("double@1", l, func(ctx context.Context, in []int, size int) ([]int, timing, error) {
		d.mu.Lock()
		d.runs = append(d.runs, slices.Clone(in))
		d.mu.Unlock()
		d.started <- in
		if d.gate != nil {
			select {
			case <-d.gate:
			case <-ctx.Done():
				return nil, timing{}, ctx.Err()
			}
		}
		out := make([]int, len(in))
		for i, x := range in {
			if x < 0 {
				return nil, timing{}, fmt.Errorf("%d is negative", x)
			}
			if x == 666 {
				panic("666")
			}
			out[i] = 2 * x
		}
		return out, timing{infer: time.Millisecond}, nil
	})
	return d
}

// ask sends numbers, each of the size 10.
func (d *double) ask(ctx context.Context, in ...int) ([]int, error) {
	sizes := make([]int, len(in))
	for i := range sizes {
		sizes[i] = 10
	}
	out, _, err := d.do(ctx, newRecorder("double", 1), in, sizes, int64(len(in)))
	return out, err
}

// waiting waits until n requests are in the queue.
func (d *double) waiting(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		d.batcher.mu.Lock()
		got := d.requests
		d.batcher.mu.Unlock()
		if got == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d requests wait, want %d", got, n)
		}
	}
}

// idle holds that nothing is left in the batcher.
func (d *double) idle(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		d.batcher.mu.Lock()
		free, queue, requests, bytes := d.free, len(d.queue), d.requests, d.bytes
		d.batcher.mu.Unlock()
		if free == d.limits.executors && queue == 0 && requests == 0 && bytes == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d executors are free, %d rows, %d requests and %d bytes wait", free, d.limits.executors, queue, requests, bytes)
		}
	}
}

var one = limits{executors: 1, requests: 8, bytes: 100, rows: 32, size: 1000}

func TestIdleBatcherRunsAtOnce(t *testing.T) {
	d := newDouble(one, nil)
	for i := range 3 {
		out, err := d.ask(t.Context(), i)
		if err != nil || !slices.Equal(out, []int{2 * i}) {
			t.Errorf("%v, %v", out, err)
		}
	}
	if len(d.runs) != 3 {
		t.Errorf("%d runs", len(d.runs))
	}
	d.idle(t)
}

func TestRequestsGatherWhileOneRuns(t *testing.T) {
	d := newDouble(one, make(chan struct{}))
	var requests sync.WaitGroup
	ask := func(x int) {
		requests.Go(func() {
			if out, err := d.ask(t.Context(), x); err != nil || !slices.Equal(out, []int{2 * x}) {
				t.Errorf("%d: %v, %v", x, out, err)
			}
		})
	}
	ask(1)
	<-d.started
	for x := range 5 {
		ask(x + 2)
	}
	d.waiting(t, 5)
	d.gate <- struct{}{}
	if together := <-d.started; len(together) != 5 {
		t.Errorf("%v run together, want the five that waited", together)
	}
	d.gate <- struct{}{}
	requests.Wait()
	d.idle(t)
}

func TestManyRowsUseAllExecutors(t *testing.T) {
	l := one
	l.executors = 4
	d := newDouble(l, make(chan struct{}))
	done := make(chan error, 1)
	go func() {
		out, err := d.ask(t.Context(), 1, 2, 3, 4, 5, 6, 7, 8)
		if err == nil && !slices.Equal(out, []int{2, 4, 6, 8, 10, 12, 14, 16}) {
			err = fmt.Errorf("%v", out)
		}
		done <- err
	}()
	for range 4 {
		<-d.started
	}
	close(d.gate)
	if err := <-done; err != nil {
		t.Error(err)
	}
	d.idle(t)
}

func TestCancelledRequestsFreeTheirPlace(t *testing.T) {
	d := newDouble(one, make(chan struct{}))
	first := make(chan error, 1)
	go func() { _, err := d.ask(t.Context(), 1); first <- err }()
	<-d.started
	ctx, cancel := context.WithCancel(t.Context())
	var requests sync.WaitGroup
	for x := range 3 {
		requests.Go(func() {
			if _, err := d.ask(ctx, x); galley.CodeOf(err) != galley.Canceled {
				t.Errorf("a cancelled request says %v", err)
			}
		})
	}
	d.waiting(t, 3)
	cancel()
	requests.Wait() // though the executor is still busy
	d.waiting(t, 0)
	close(d.gate)
	if err := <-first; err != nil {
		t.Error(err)
	}
	d.idle(t)
	if len(d.runs) != 1 {
		t.Errorf("what was cancelled ran: %v", d.runs)
	}
}

func TestExpiredRequestsDoNotRun(t *testing.T) {
	d := newDouble(one, make(chan struct{}))
	expired, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := d.ask(expired, 1); galley.CodeOf(err) != galley.DeadlineExceeded {
		t.Errorf("an expired request says %v", err)
	}
	if len(d.runs) != 0 {
		t.Errorf("it ran: %v", d.runs)
	}
	// A run is known to take a second: a request that has less is not run.
	for range 20 {
		d.cost.observe(10, time.Second)
	}
	short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := d.ask(short, 1); galley.CodeOf(err) != galley.DeadlineExceeded || !strings.Contains(err.Error(), "which is too little") {
		t.Error(err)
	}
	// The estimate was wrong; the batcher comes to see that.
	close(d.gate)
	for i := 0; ; i++ {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		_, err := d.ask(ctx, 1)
		cancel()
		if err == nil {
			break
		}
		if i > 20 {
			t.Fatal("nothing runs any more")
		}
	}
	d.idle(t)
}

func TestARunEndsWhenNobodyWaitsForIt(t *testing.T) {
	d := newDouble(one, make(chan struct{}))
	ask := func(ctx context.Context, x int) chan error {
		done := make(chan error, 1)
		go func() { _, err := d.ask(ctx, x); done <- err }()
		return done
	}
	first := ask(t.Context(), 0)
	<-d.started
	one, cancelOne := context.WithCancel(t.Context())
	two, cancelTwo := context.WithCancel(t.Context())
	a, b := ask(one, 1), ask(two, 2)
	d.waiting(t, 2)
	d.gate <- struct{}{}
	if err := <-first; err != nil {
		t.Error(err)
	}
	if together := <-d.started; len(together) != 2 {
		t.Fatalf("%v run together", together)
	}
	cancelOne()
	select {
	case err := <-a:
		t.Errorf("the run ended for one of two: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	cancelTwo()
	for _, done := range []chan error{a, b} {
		if err := <-done; galley.CodeOf(err) != galley.Canceled {
			t.Errorf("got %v", err)
		}
	}
	d.idle(t)
}

func TestOverloadIsRefusedAtOnce(t *testing.T) {
	d := newDouble(one, make(chan struct{}))
	var requests sync.WaitGroup
	ask := func(in ...int) {
		requests.Go(func() {
			if _, err := d.ask(t.Context(), in...); err != nil {
				t.Error(err)
			}
		})
	}
	ask(1)
	<-d.started
	ask(slices.Repeat([]int{1}, 200)...) // more bytes than may wait, but alone
	d.waiting(t, 1)
	refused := func() {
		t.Helper()
		fastest := time.Hour
		for range 5 {
			began := time.Now()
			_, err := d.ask(t.Context(), 1)
			fastest = min(fastest, time.Since(began))
			if e := galley.AsError(err); e == nil || e.Code != galley.ResourceExhausted || e.RetryAfter <= 0 || e.Remedy == "" {
				t.Errorf("got %+v", e)
			}
		}
		if fastest > 5*time.Millisecond {
			t.Errorf("refused after %v", fastest)
		}
	}
	refused()
	close(d.gate)
	requests.Wait()
	d.idle(t)

	d = newDouble(one, make(chan struct{}))
	ask(1)
	<-d.started
	for range one.requests {
		ask(1)
	}
	d.waiting(t, one.requests)
	refused()
	close(d.gate)
	requests.Wait()
	d.idle(t)
}

func TestOneBadRowFailsItsRequestAlone(t *testing.T) {
	d := newDouble(one, make(chan struct{}))
	errs := make(chan error, 1)
	go func() { _, err := d.ask(t.Context(), 1); errs <- err }()
	<-d.started
	var requests sync.WaitGroup
	for _, x := range []int{2, -3, 666, 5} {
		requests.Go(func() {
			defer func() {
				if p := recover(); (p != nil) != (x == 666) {
					t.Errorf("%d panics with %v", x, p)
				}
			}()
			out, err := d.ask(t.Context(), x)
			if (err != nil) != (x < 0) || err == nil && out[0] != 2*x {
				t.Errorf("%d: %v, %v", x, out, err)
			}
		})
	}
	d.waiting(t, 4)
	close(d.gate)
	requests.Wait()
	if err := <-errs; err != nil {
		t.Error(err)
	}
	d.idle(t)
}

// Urgent requests come first, and those without a deadline are not forgotten.
func TestUrgentRequestsComeFirst(t *testing.T) {
	l := one
	l.rows = 1
	d := newDouble(l, make(chan struct{}))
	var requests sync.WaitGroup
	ask := func(x int, within time.Duration) {
		ctx, cancel := t.Context(), func() {}
		if within > 0 {
			ctx, cancel = context.WithTimeout(ctx, within)
		}
		requests.Go(func() {
			defer cancel()
			if _, err := d.ask(ctx, x); err != nil {
				t.Errorf("%d: %v", x, err)
			}
		})
	}
	ask(0, 0)
	<-d.started
	for i, within := range []time.Duration{0, time.Hour, patience - time.Second, patience - 2*time.Second} {
		ask(i+1, within)
		d.waiting(t, i+1)
	}
	close(d.gate)
	requests.Wait()
	if want := [][]int{{0}, {4}, {3}, {1}, {2}}; !slices.EqualFunc(d.runs, want, slices.Equal) {
		t.Errorf("ran %v, want %v", d.runs, want)
	}
}

func TestBatcherUnderLoad(t *testing.T) {
	l := limits{executors: 3, requests: 12, bytes: 60, rows: 8, size: 200}
	d := newDouble(l, nil)
	var callers sync.WaitGroup
	var answered, refused, cancelled atomic.Int64
	for g := range 16 {
		callers.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(g)))
			for range 200 {
				in, sizes := make([]int, 1+rng.IntN(6)), make([]int, 6)
				for i := range in {
					in[i], sizes[i] = rng.IntN(600), 1+rng.IntN(60)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(3000))*time.Microsecond)
				if rng.IntN(2) == 0 {
					ctx, cancel = context.WithCancel(t.Context())
				}
				out, _, err := d.do(ctx, newRecorder("double", 1), in, sizes[:len(in)], int64(len(in)))
				cancel()
				switch galley.CodeOf(err) {
				case "":
					answered.Add(1)
					for i := range in {
						if out[i] != 2*in[i] {
							t.Errorf("%v became %v", in, out)
						}
					}
				case galley.ResourceExhausted:
					refused.Add(1)
				case galley.DeadlineExceeded:
					cancelled.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	go func() {
		for range d.started {
			time.Sleep(50 * time.Microsecond)
		}
	}()
	callers.Wait()
	d.idle(t)
	close(d.started)
	t.Logf("%d answered, %d refused, %d late", answered.Load(), refused.Load(), cancelled.Load())
	if answered.Load() == 0 {
		t.Error("nothing was answered")
	}
}

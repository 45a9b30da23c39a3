package serving

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"galley"
)

// Statistics are what a version has done since the process began, with the
// meanings of Triton's statistics extension. A request counts once, an
// inference is one element of a batch (a text), an execution is one run of the
// graph, which may serve several requests. The spans other than Success and
// Fail cover the requests that were answered; each such request counts the
// whole of the runs that it had part in.
type Statistics struct {
	Model         string
	Version       int
	LastInference time.Time // zero before the first
	Inferences    uint64
	Executions    uint64
	Pending       int // requests that wait for a run now

	Success       Span // from the request's tensors to the answer's
	Fail          Span
	Queue         Span // until its first run began
	ComputeInput  Span // making the graph's inputs
	ComputeInfer  Span // running it
	ComputeOutput Span // reading its outputs

	Batches  []BatchStatistics // by rising size
	Failures map[Failure]uint64
	// Latency counts the answered requests by Success's time: element i those
	// of at most LatencyBounds[i], the last one the rest.
	Latency []uint64
}

// A Span is how often something happened and how long it took together.
type Span struct {
	Count uint64
	Total time.Duration
}

func (s *Span) add(d time.Duration) {
	s.Count++
	s.Total += d
}

// BatchStatistics are the runs of one batch size.
type BatchStatistics struct {
	Size                                      int
	ComputeInput, ComputeInfer, ComputeOutput Span // one count a run
}

// A Failure is why a request was not answered, in the words of Triton's
// metrics.
type Failure string

// The failures.
const (
	Rejected      Failure = "REJECTED" // a wrong request, or no room for it
	Canceled      Failure = "CANCELED" // by its client or its deadline
	BackendFailed Failure = "BACKEND"
)

// LatencyBounds are the upper bounds of Statistics.Latency.
var LatencyBounds = []time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// failureOf sorts an error.
func failureOf(err error) Failure {
	switch galley.CodeOf(err) {
	case galley.InvalidArgument, galley.OutOfRange, galley.ResourceExhausted, galley.Unavailable:
		return Rejected
	case galley.Canceled, galley.DeadlineExceeded:
		return Canceled
	default:
		return BackendFailed
	}
}

// timing is where the time of a request, or of a run, went.
type timing struct{ queue, input, infer, output time.Duration }

// A recorder keeps the statistics of one version. Several goroutines may use
// it at once.
type recorder struct {
	mu      sync.Mutex
	total   Statistics // without Batches
	batches map[int]*BatchStatistics
}

func newRecorder(model string, version int) *recorder {
	return &recorder{
		total:   Statistics{Model: model, Version: version, Failures: map[Failure]uint64{}, Latency: make([]uint64, len(LatencyBounds)+1)},
		batches: map[int]*BatchStatistics{},
	}
}

// waits notes that a request waits for a run (1), or does so no more (-1).
func (r *recorder) waits(change int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total.Pending += change
}

// ran notes a run of size elements.
func (r *recorder) ran(size int, t timing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total.Executions++
	b, ok := r.batches[size]
	if !ok {
		b = &BatchStatistics{Size: size}
		r.batches[size] = b
	}
	b.ComputeInput.add(t.input)
	b.ComputeInfer.add(t.infer)
	b.ComputeOutput.add(t.output)
}

// answered notes the end of a request of size elements.
func (r *recorder) answered(now time.Time, size int, took time.Duration, t timing, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.total
	if err != nil {
		s.Fail.add(took)
		s.Failures[failureOf(err)]++
		return
	}
	s.LastInference = now
	s.Inferences += uint64(size)
	s.Success.add(took)
	s.Queue.add(t.queue)
	s.ComputeInput.add(t.input)
	s.ComputeInfer.add(t.infer)
	s.ComputeOutput.add(t.output)
	bucket, _ := slices.BinarySearch(LatencyBounds, took)
	s.Latency[bucket]++
}

// read returns a copy.
func (r *recorder) read() Statistics {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.total
	s.Latency = slices.Clone(s.Latency)
	s.Failures = make(map[Failure]uint64, len(r.total.Failures))
	for f, n := range r.total.Failures {
		s.Failures[f] = n
	}
	for _, b := range r.batches {
		s.Batches = append(s.Batches, *b)
	}
	slices.SortFunc(s.Batches, func(a, b BatchStatistics) int { return cmp.Compare(a.Size, b.Size) })
	return s
}

// Statistics returns what the versions of a model have done that were open
// since the process began: all models if name is empty, all versions if
// version is 0, in the order of names and numbers. A version that was never
// opened, or was deleted, has none.
func (t *Table) Statistics(name string, version int) []Statistics {
	var recorders []*recorder
	t.mu.Lock()
	for model, m := range t.models {
		if name != "" && name != model {
			continue
		}
		for number, r := range m.recorders {
			if version == 0 || version == number {
				recorders = append(recorders, r)
			}
		}
	}
	t.mu.Unlock()
	out := make([]Statistics, len(recorders))
	for i, r := range recorders {
		out[i] = r.read()
	}
	slices.SortFunc(out, func(a, b Statistics) int {
		return cmp.Or(cmp.Compare(a.Model, b.Model), cmp.Compare(a.Version, b.Version))
	})
	return out
}

package serving

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"galley/experiment"
	"galley/internal/processors"
	"galley/onnx/session"
)

// Bounds of what waits for a shadow. A request for which there is no room, or
// no time, is not shadowed: only its caller matters.
const (
	shadowQueue    = 64
	shadowBytes    = 32 << 20
	shadowPatience = 200 * time.Millisecond // for the control to be idle
	shadowTime     = 10 * time.Second       // for a run
	shadowPoll     = time.Millisecond
	shadowTries    = 4 // the last one runs to its end, whoever comes
)

// errGaveWay is why a shadow's run ends that another request needs the
// processors of. It is put again.
var errGaveWay = errors.New("gave way to a request")

// A shadowed is a request that the control has answered, to be put to the
// treatment, too.
type shadowed struct {
	model   string
	route   *experiment.Route
	control *Servable
	inputs  map[string]*session.Tensor
	labels  []string // that the control gave; nil if it gives none
	bytes   int64
}

// shadows put requests to treatments one after the other, each when no request
// runs, until one comes, and not for longer than the budget.
type shadows struct {
	table *Table
	// interrupt ends the run under way if it is one that gives way.
	interrupt atomic.Pointer[context.CancelCauseFunc]

	mu     sync.Mutex
	queue  []shadowed
	bytes  int64
	busy   bool // a goroutine works on the queue
	closed bool
}

// offer takes a request that was answered, if there is room.
func (s *shadows) offer(l *Lease, inputs, outputs map[string]*session.Tensor) {
	_, bytes := sizeOf(inputs)
	w := shadowed{model: l.Version.Name, route: l.Assignment.Route, control: l.Servable, inputs: inputs, labels: labelsOf(outputs), bytes: bytes}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if len(s.queue) >= shadowQueue || len(s.queue) > 0 && s.bytes+bytes > shadowBytes {
		w.route.Meters[experiment.Treatment].Drop(experiment.NoRoom)
		return
	}
	s.queue = append(s.queue, w)
	s.bytes += bytes
	if !s.busy {
		s.busy = true
		go s.work()
	}
}

// close drops what waits.
func (s *shadows) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.queue = true, nil
}

// next takes a request off the queue; false if there is none.
func (s *shadows) next() (shadowed, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		s.busy, s.queue, s.bytes = false, nil, 0
		return shadowed{}, false
	}
	w := s.queue[0]
	s.queue[0] = shadowed{} // its tensors are the collector's
	s.queue = s.queue[1:]
	s.bytes -= w.bytes
	return w, true
}

func (s *shadows) work() {
	for {
		w, ok := s.next()
		if !ok {
			return
		}
		for try := 1; ; try++ {
			if !w.control.waitIdle(shadowPatience) {
				w.route.Meters[experiment.Treatment].Drop(experiment.NoIdle)
				break
			}
			took, done := s.run(w, try < shadowTries)
			time.Sleep(w.route.Shadow.Pause(took, processors.Cores()))
			if done {
				break
			}
		}
	}
}

// giveWay ends the run of a shadow before the request of a caller begins. Beside
// one, two runs that take a processor each leave none to notice the next.
func (s *shadows) giveWay() {
	if end := s.interrupt.Load(); end != nil {
		(*end)(errGaveWay)
		// A goroutine of its own tells the runtime, and the other processors
		// may be in runs of graphs: it has this one first.
		runtime.Gosched()
	}
}

// run puts a request to the treatment, and returns how long it took. It is not
// done if it gave way.
func (s *shadows) run(w shadowed, givesWay bool) (took time.Duration, done bool) {
	ctx, cancel := context.WithTimeout(context.Background(), shadowTime)
	defer cancel()
	meter := w.route.Meters[experiment.Treatment]
	l, err := s.table.Acquire(ctx, w.model, strconv.Itoa(w.route.Versions[experiment.Treatment]))
	if err != nil {
		meter.Observe(time.Now(), 0, true, false)
		return 0, true
	}
	defer l.Release()
	defer func() {
		if recover() != nil { // the graph's, which no caller is to see
			meter.Observe(time.Now(), 0, true, false)
			done = true
		}
	}()
	if givesWay {
		var interrupt context.CancelCauseFunc
		ctx, interrupt = context.WithCancelCause(ctx)
		s.interrupt.Store(&interrupt)
		defer s.interrupt.Store(nil)
	}
	began := time.Now()
	outputs, err := l.Servable.Infer(ctx, w.inputs)
	now := time.Now()
	took = now.Sub(began)
	if err != nil {
		if context.Cause(ctx) == errGaveWay {
			return took, false
		}
		meter.Observe(now, took, true, false)
		return took, true
	}
	defer closeAll(outputs)
	meter.Observe(now, took, false, empty(w.inputs, outputs))
	if w.labels != nil {
		meter.Compare(slices.Equal(w.labels, labelsOf(outputs)))
	}
	return took, true
}

// labelsOf are the labels of an answer; nil if it has none.
func labelsOf(outputs map[string]*session.Tensor) []string {
	t := outputs["label"]
	if t == nil {
		return nil
	}
	return slices.Clone(t.Strings())
}

// waitIdle waits until nothing runs or waits, or the time is over.
func (s *Servable) waitIdle(patience time.Duration) bool {
	if s.load == nil {
		return true
	}
	for began := time.Now(); s.load() > 0; time.Sleep(shadowPoll) {
		if time.Since(began) > patience {
			return false
		}
	}
	return true
}

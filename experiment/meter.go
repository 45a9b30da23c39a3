package experiment

import (
	"math"
	"sync"
	"time"
)

// slots is how many parts a window has: it slides by a twentieth of itself.
const slots = 20

// Latency is counted in buckets whose bounds grow by a twentieth, from a tenth
// of a millisecond to more than an hour: a p99 is read as at most a twentieth
// more than it was.
const (
	firstBucket  = 100 * time.Microsecond
	bucketGrowth = 1.05
	latencies    = 360
)

// bucketBounds are the upper ends of all buckets but the last.
var bucketBounds = func() (bounds [latencies - 1]time.Duration) {
	for i := range bounds {
		bounds[i] = time.Duration(float64(firstBucket) * math.Pow(bucketGrowth, float64(i)))
	}
	return bounds
}()

// bucketOf returns the bucket of a time.
func bucketOf(d time.Duration) int {
	low, high := 0, len(bucketBounds)
	for low < high {
		if mid := (low + high) / 2; d > bucketBounds[mid] {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// A Counts is what an arm did since it was last asked for. A shadow's answers
// are compared with the control's, where both have labels.
type Counts struct {
	Requests, Errors, Empty int64
	Compared, Agreed        int64
}

// A Meter counts the answers of one arm: those of a sliding window, and those
// that are not yet stored. Several goroutines may use it at once.
type Meter struct {
	slot time.Duration

	mu      sync.Mutex
	ring    [slots]slotCounts
	fresh   Counts
	dropped [len(Drops)]int64
}

// A slotCounts is a part of the window; the one that begins at another time
// than its turn is of a former round.
type slotCounts struct {
	turn int64
	Counts
	answered [latencies]uint32
}

// NewMeter makes a meter of a window.
func NewMeter(window time.Duration) *Meter { return &Meter{slot: max(window/slots, 1)} }

// Observe counts an answer, or a failure, that took so long.
func (m *Meter) Observe(now time.Time, took time.Duration, failed, empty bool) {
	turn := now.UnixNano() / int64(m.slot)
	bucket := bucketOf(took)
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.ring[uint64(turn)%slots]
	if s.turn != turn {
		*s = slotCounts{turn: turn}
	}
	s.Requests++
	m.fresh.Requests++
	switch {
	case failed:
		s.Errors++
		m.fresh.Errors++
		return
	case empty:
		s.Empty++
		m.fresh.Empty++
	}
	s.answered[bucket]++
}

// Compare counts an answer of a shadow that was compared.
func (m *Meter) Compare(agreed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fresh.Compared++
	if agreed {
		m.fresh.Agreed++
	}
}

// Drop counts a request that was not put to a shadow.
func (m *Meter) Drop(d Drop) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropped[d]++
}

// Dropped returns how many requests were not put to a shadow, by reason, since
// the meter was made.
func (m *Meter) Dropped() [len(Drops)]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dropped
}

// Read returns the figures of the window that ends now.
func (m *Meter) Read(now time.Time) Figures {
	turn := now.UnixNano() / int64(m.slot)
	var f Figures
	var answered [latencies]int64
	m.mu.Lock()
	for i := range m.ring {
		s := &m.ring[i]
		if s.turn <= turn-slots || s.turn > turn {
			continue
		}
		f.Requests += s.Requests
		f.Errors += s.Errors
		f.Empty += s.Empty
		for b, n := range s.answered {
			answered[b] += int64(n)
		}
	}
	m.mu.Unlock()
	rank := (99*(f.Requests-f.Errors) + 99) / 100 // the smallest that 99 in 100 are at most
	for b, n := range answered {
		if rank -= n; rank <= 0 && n > 0 {
			f.P99 = bucketBounds[min(b, len(bucketBounds)-1)]
			break
		}
	}
	return f
}

// Take returns what was counted since the last Take.
func (m *Meter) Take() Counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	fresh := m.fresh
	m.fresh = Counts{}
	return fresh
}

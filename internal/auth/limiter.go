package auth

import (
	"sync"
	"time"
)

// A Limiter lets each key happen at a rate, with bursts, in bounded memory.
// When there are more keys than it holds, the one that has waited longest is
// forgotten.
type Limiter struct {
	burst float64
	every time.Duration // a further one is allowed each
	most  int           // keys

	mu      sync.Mutex
	buckets map[string]*bucket
	oldest  *bucket // of a ring in the order of use
}

// A bucket is what one key has left.
type bucket struct {
	key        string
	left       float64
	at         time.Time
	next, prev *bucket
}

// NewLimiter allows burst at once and one more each time that every has
// passed, for each of at most so many keys.
func NewLimiter(burst int, every time.Duration, keys int) *Limiter {
	return &Limiter{burst: float64(burst), every: every, most: max(keys, 1), buckets: map[string]*bucket{}}
}

// Allow takes one of a key's. If none is left, it returns how long to wait
// for the next.
func (l *Limiter) Allow(key string, now time.Time) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.at(key, now)
	b.fill(l, now)
	if b.left < 1 {
		return time.Duration((1 - b.left) * float64(l.every)), false
	}
	b.left--
	return 0, true
}

// Spent reports whether a key has none left, and takes none.
func (l *Limiter) Spent(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.buckets[key]
	if !ok {
		return false
	}
	b.fill(l, now)
	return b.left < 1
}

// fill gives a bucket what has come since it was last used. A clock that jumps
// back gives nothing and takes nothing; the time counts from there on.
func (b *bucket) fill(l *Limiter, now time.Time) {
	if passed := now.Sub(b.at); passed > 0 {
		b.left = min(l.burst, b.left+float64(passed)/float64(l.every))
	}
	b.at = now
}

// at finds a key's bucket, or makes one in place of the oldest, and makes it
// the newest.
func (l *Limiter) at(key string, now time.Time) *bucket {
	b, ok := l.buckets[key]
	switch {
	case ok:
		l.unlink(b)
	case len(l.buckets) >= l.most:
		b = l.oldest
		l.unlink(b)
		delete(l.buckets, b.key)
		*b = bucket{key: key, left: l.burst, at: now}
		l.buckets[key] = b
	default:
		b = &bucket{key: key, left: l.burst, at: now}
		l.buckets[key] = b
	}
	l.link(b)
	return b
}

func (l *Limiter) unlink(b *bucket) {
	if b.next == b {
		l.oldest = nil
		return
	}
	b.prev.next, b.next.prev = b.next, b.prev
	if l.oldest == b {
		l.oldest = b.next
	}
}

func (l *Limiter) link(b *bucket) {
	if l.oldest == nil {
		b.next, b.prev = b, b
		l.oldest = b
		return
	}
	b.next, b.prev = l.oldest, l.oldest.prev
	b.prev.next, b.next.prev = b, b
}

package control

import (
	"context"
	"sync"
)

// maxSpooledUpdates is how many bytes of updates lie below tmp at once while
// they come, unless Options say otherwise.
const maxSpooledUpdates = 8 << 30

// A spoolRoom bounds the updates that come at once: by their bytes, and to one
// of a partner.
type spoolRoom struct {
	max int64

	mu      sync.Mutex
	used    int64
	from    map[string]bool // partners whose update comes
	changed chan struct{}   // closed when room is given back
}

func newSpoolRoom(most int64) *spoolRoom {
	if most <= 0 {
		most = maxSpooledUpdates
	}
	return &spoolRoom{max: most, from: map[string]bool{}, changed: make(chan struct{})}
}

// enter lets a partner's update in if no other of it is coming.
func (s *spoolRoom) enter(partner string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.from[partner] {
		return false
	}
	s.from[partner] = true
	return true
}

func (s *spoolRoom) leave(partner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.from, partner)
}

// take waits until there is room for so many bytes; what is larger than all the
// room waits until it is alone.
func (s *spoolRoom) take(ctx context.Context, bytes int64) error {
	for {
		s.mu.Lock()
		if s.used == 0 || s.used+bytes <= s.max {
			s.used += bytes
			s.mu.Unlock()
			return nil
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *spoolRoom) give(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= bytes
	close(s.changed)
	s.changed = make(chan struct{})
}

package serving

import (
	"context"
	"time"
)

// UnloadIdle closes versions that no request has used for the time idle, until
// ctx ends. The next request opens them again. The version that traffic went to
// before stays for a rollback, as long as the one that it goes to now.
func (t *Table) UnloadIdle(ctx context.Context, idle time.Duration) {
	ticks := time.NewTicker(max(idle/10, time.Millisecond))
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticks.C:
			t.unload(now.Add(-idle))
		}
	}
}

// unload closes versions whose last user left before a time.
func (t *Table) unload(before time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	idle := func(o *opened) bool { return o.servable != nil && o.users == 0 && o.left.Before(before) }
	for _, m := range t.models {
		former := m.former
		if m.traffic == nil || idle(m.traffic) {
			former = nil
		}
		for number, o := range m.opened {
			if idle(o) && o != former {
				t.drop(m, number, o)
			}
		}
	}
}

package serving

import "slices"

// warm is how many versions of a model stay open besides the one that traffic
// goes to: the one before it, and those that were asked for by number last.
const warm = 2

// touch notes that a version was asked for.
func (m *model) touch(number int) {
	if i := slices.Index(m.recent, number); i >= 0 {
		m.recent = slices.Delete(m.recent, i, i+1)
	}
	m.recent = append(m.recent, number)
}

// evict drops the versions of a model that are not kept warm.
func (t *Table) evict(m *model) {
	kept := 0
	if m.former != nil && m.former != m.traffic {
		kept = 1
	}
	for _, n := range slices.Backward(slices.Clone(m.recent)) {
		o, ok := m.opened[n]
		if !ok || o == m.traffic || o == m.former || slices.Contains(m.routed, n) {
			continue
		}
		if kept++; kept > warm && o.servable != nil {
			t.drop(m, n, o)
		}
	}
}

// drop takes a version off the table; it closes when its last user leaves.
func (t *Table) drop(m *model, number int, o *opened) {
	delete(m.opened, number)
	if i := slices.Index(m.recent, number); i >= 0 {
		m.recent = slices.Delete(m.recent, i, i+1)
	}
	if m.traffic == o {
		m.traffic = nil
	}
	if m.former == o {
		m.former = nil
	}
	o.evicted = true
	t.closeIfUnused(o)
}

// closeIfUnused closes a dropped version that nobody uses, beside the requests
// of others: freeing a large model takes a while.
func (t *Table) closeIfUnused(o *opened) {
	if !o.evicted || o.users > 0 || o.servable == nil {
		return
	}
	s := o.servable
	o.servable = nil
	t.busy++
	go func() {
		s.close()
		if t.Freed != nil {
			t.Freed()
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.done()
	}()
}

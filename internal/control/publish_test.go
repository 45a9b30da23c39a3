package control

import (
	"sync"
	"testing"

	"galley/internal/store/storetest"
	"galley/registry"
)

// Jobs that publish at the same time leave the alias at the newest version.
func TestCandidateIsTheNewest(t *testing.T) {
	w := newWorld(t, noOpener{}, 1)
	for round := range 10 {
		var published []registry.Version
		for i := range 4 {
			v, _, err := w.store.Register(t.Context(), storetest.Version("news", 10*round+i))
			if err != nil {
				t.Fatal(err)
			}
			published = append(published, v)
		}
		var all sync.WaitGroup
		for _, v := range published {
			all.Go(func() {
				if err := w.pointCandidate(t.Context(), v, "test"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		m, err := w.store.Outline(t.Context(), "news", 0)
		if err != nil {
			t.Fatal(err)
		}
		if candidate, _ := m.Alias(Candidate); candidate.Target != published[3].Number {
			t.Fatalf("the candidate is version %d of %d", candidate.Target, published[3].Number)
		}
	}
}

package control

import (
	"slices"
	"strings"
	"testing"
	"time"

	"galley/trainer"
)

// A federation is run again as soon as its run has ended, and the run that ended
// is forgotten at once: it counts among those that run at a time.
func TestFederationsFollowEachOther(t *testing.T) {
	w := newFederationWorld(t)
	a := newAgent(t, w.Control, "courier", 100)
	start(t, a, newAgent(t, w.Control, "gazette", 300))
	var ends []string
	quickest := time.Hour
	for range 3 {
		for range 2 {
			j := w.wait(t, w.submit(t, []byte(federationFile)).ID)
			if j.Phase != trainer.Succeeded {
				t.Fatalf("%+v %v", j, j.Error)
			}
			ends = append(ends, j.ID+" succeeded")
		}
		ended := time.Now()
		eventually(t, func() bool { _, runs := w.federations.named("topics"); return !runs && w.federating.count() == 0 })
		quickest = min(quickest, time.Since(ended))
	}
	// Agents hear of each end.
	eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return slices.Equal(a.ends, ends)
	})
	run := strings.Fields(ends[0])[0]
	for _, of := range []place{{"topics", "herald"}, {"others", "courier"}} {
		if phase := w.endOf(t.Context(), of.partner, of.federation, run); phase != "" {
			t.Errorf("%s hears of the end of a run of %s: %s", of.partner, of.federation, phase)
		}
	}
	if quickest > again/2 {
		t.Errorf("a run is known for %s after its end", quickest)
	}
}

// A look at a run that has ended meanwhile does not take the place of the run
// that has begun since.
func TestEndedRunTakesNoPlace(t *testing.T) {
	var f federations
	first := f.begin(&run{job: "first", name: "topics"})
	if r, ok := f.keep(&run{job: "first", name: "topics"}); r != first || !ok {
		t.Errorf("%+v, %v", r, ok)
	}
	second := f.begin(&run{job: "second", name: "topics"})
	if r, ok := f.keep(&run{job: "first", name: "topics"}); ok {
		t.Errorf("%+v", r)
	}
	f.end("first")
	if r, _ := f.named("topics"); r != second {
		t.Errorf("%+v", r)
	}
	f.end("second")
	if r, ok := f.keep(&run{job: "first", name: "topics"}); !ok || r.job != "first" {
		t.Errorf("%+v, %v", r, ok)
	}
}

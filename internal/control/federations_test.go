package control

import (
	"testing"
	"time"

	"galley/trainer"
)

// A federation is run again as soon as its run has ended, and the run that ended
// is forgotten at once: it counts among those that run at a time.
func TestFederationsFollowEachOther(t *testing.T) {
	w := newFederationWorld(t)
	start(t, newAgent(t, w.Control, "courier", 100), newAgent(t, w.Control, "gazette", 300))
	quickest := time.Hour
	for range 3 {
		for range 2 {
			if j := w.wait(t, w.submit(t, []byte(federationFile)).ID); j.Phase != trainer.Succeeded {
				t.Fatalf("%+v %v", j, j.Error)
			}
		}
		ended := time.Now()
		eventually(t, func() bool { _, runs := w.federations.named("topics"); return !runs && w.federating.count() == 0 })
		quickest = min(quickest, time.Since(ended))
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

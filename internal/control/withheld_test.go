package control

import (
	"strings"
	"testing"

	"galley"
	"galley/trainer"
)

// What an engine withholds is published, but does not become the candidate.
func TestWithheld(t *testing.T) {
	w := newWorld(t, noOpener{}, 1)
	w.add(t, "news", map[string]string{"train": rows})
	j := w.wait(t, w.submit(t, jobFile("slow", "text-mlm", "recipe: {epochs: 1}\n")).ID)
	if j.Phase != trainer.Succeeded || len(j.Versions) != 1 || j.Versions[0] != "slow@1" {
		t.Fatalf("%+v", j)
	}
	_, aliases, err := w.Version(t.Context(), galley.Ref{Name: "slow"})
	if err != nil || len(aliases) != 0 {
		t.Errorf("%v %v", aliases, err)
	}
	if log := w.log(t, j.ID); !strings.Contains(log, "published as slow@1, but not as the candidate: it is slower") {
		t.Error(log)
	}
}

package federation

import (
	"testing"
	"time"

	"galley"
)

// A federation that failed has its attempts again, and one that was cancelled
// while a round was open goes on with that round; no attempt has the number of
// one before.
func TestResumedFederation(t *testing.T) {
	f := newFederation(t, func(t *Terms) { t.Attempts = 2; t.Pause = 0 }, "a", "b")
	present := []string{"a", "b"}
	at := began
	attempts := map[int]bool{}
	fail := func() {
		t.Helper()
		f, _ = advance(t, f, Ticked{at, present})
		if f.Round == nil || attempts[f.Round.Attempt] {
			t.Fatalf("%+v", f.Round)
		}
		attempts[f.Round.Attempt] = true
		at = f.Round.Deadline
		f, _ = advance(t, f, Ticked{at, present})
	}
	fail()
	fail()
	if f.State != Broken {
		t.Fatal(f.State)
	}
	base := f.Base
	f, _ = advance(t, f, Resumed{at})
	if f.State != Running || f.Failure != "" || f.Base != base {
		t.Fatalf("%+v", f)
	}
	fail()
	if f.State != Running {
		t.Fatal("it has no attempts again")
	}
	f, _ = advance(t, f, Ticked{at, present}, Cancelled{at, "enough"}, Resumed{at.Add(time.Second)}, Ticked{at.Add(time.Second), present})
	if f.State != Running || f.Round == nil || attempts[f.Round.Attempt] || f.Round.Attempt != 5 {
		t.Fatalf("%+v", f.Round)
	}
	at = at.Add(time.Second)
	f, effects := advance(t, f, answered(f, "a", "b")...)
	work := effects[0].(StartAggregation)
	f, _ = advance(t, f, Aggregated{at, work.Round, work.Attempt, work.Ordinal, galley.DigestBytes([]byte("next"))})
	if f.Closed != 1 || f.Attempt != 0 || f.Resumed != 0 {
		t.Errorf("%+v", f)
	}
	// One that runs, or has succeeded, is not changed.
	if again, effects := advance(t, f, Resumed{at.Add(time.Hour)}); len(effects) > 0 || again.Updated != f.Updated {
		t.Errorf("%+v, %v", again, effects)
	}
}

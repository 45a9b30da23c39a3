package control

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"galley"
	"galley/experiment"
	"galley/internal/blob"
	"galley/internal/store"
)

// TestOldOutcomes: an outcome is taken for 90 days. Later it is refused, also
// when the row that would tell it from a new one is gone, and the report of the
// experiment stays as it was.
func TestOldOutcomes(t *testing.T) {
	var later atomic.Int64
	l := &lab{}
	var err error
	l.world, err = openWith(t.TempDir(), noOpener{}, 1, blob.Options{}, func(o *Options) {
		o.Clock = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
		o.Traffic.Route = func(_ string, r *experiment.Route) { l.route.Store(r) }
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.stop)
	l.begin(t, nil)
	inside := l.answer("reader")
	outside := inside
	outside.Experiment = 0
	ids := map[string]string{"inside": l.Signer().Sign(inside), "outside": l.Signer().Sign(outside)}
	send := func(want store.OutcomeState) {
		t.Helper()
		for name, id := range ids {
			f, err := l.Feedback(t.Context(), id, "true")
			if want == "" {
				if galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), "more than 90 days ago") {
					t.Errorf("%s: %+v, %v", name, f, err)
				}
			} else if err != nil || f.State != want {
				t.Errorf("%s: %+v, %v, not %s", name, f, err, want)
			}
		}
	}
	outcomes := func() float64 {
		t.Helper()
		e, err := l.Experiment(t.Context(), "test")
		if err != nil {
			t.Fatal(err)
		}
		return e.Arms[inside.Arm].Outcomes.N
	}
	send(store.OutcomeRecorded)
	if _, err := l.StopExperiment(t.Context(), "ann", "test", "enough"); err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		after time.Duration
		want  store.OutcomeState
	}{{89 * day, store.OutcomeUnchanged}, {90*day + time.Hour, ""}, {92 * day, ""}} {
		later.Store(int64(c.after))
		l.forgetOutcomes(t.Context())
		send(c.want)
		if n := outcomes(); n != 1 {
			t.Errorf("after %s there are %v outcomes", c.after, n)
		}
	}
	if n, err := l.store.ForgetOutcomes(t.Context(), time.Now().Add(1000*day)); n != 0 || err != nil {
		t.Errorf("%d rows were left: %v", n, err)
	}
}

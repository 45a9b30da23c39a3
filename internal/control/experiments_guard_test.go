package control

import (
	"strings"
	"testing"
	"time"

	"galley"
	"galley/experiment"
	"galley/internal/audit"
)

// TestEachGuardrailRollsBack: a treatment that fails, is slow or answers nothing
// loses its requests within two seconds, and the audit log has the figures of
// both arms.
func TestEachGuardrailRollsBack(t *testing.T) {
	const most = 2 * time.Second
	for name, c := range map[string]struct {
		guard         string
		took          time.Duration // of the treatment's answers
		failed, empty bool
		detail        string // how that of the audit log begins
	}{
		"errors": {"error_rate=0.02", time.Millisecond, true, false, "guardrail error_rate=0.02: news@2 0."},
		"p99":    {"p99=50ms", 60 * time.Millisecond, false, false, "guardrail p99=50: news@2 6"},
		"empty":  {"empty=0.1", time.Millisecond, false, true, "guardrail empty=0.1: news@2 0."},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLabWith(t, func(s *ExperimentStart) { s.Guards = []string{c.guard} })
			r := l.route.Load()
			if e, err := l.Experiment(t.Context(), "test"); err != nil || e.Recent != 0 {
				t.Fatalf("%d requests before the first, %v", e.Recent, err)
			}
			for _, arm := range experiment.Arms {
				for range experiment.DefaultMinimum {
					r.Meters[arm].Observe(time.Now(), 40*time.Millisecond, false, false)
				}
			}
			if time.Sleep(2 * guardTime); !l.route.Load().Live() {
				t.Fatal("good answers break it")
			}
			if e, err := l.Experiment(t.Context(), "test"); err != nil || e.Recent != experiment.DefaultMinimum {
				t.Fatalf("%d requests of the treatment, %v", e.Recent, err)
			}
			broken := time.Now()
			for range experiment.DefaultMinimum {
				r.Meters[experiment.Treatment].Observe(time.Now(), c.took, c.failed, c.empty)
			}
			for l.route.Load().Live() {
				if time.Since(broken) > most {
					t.Fatalf("the treatment has its requests after %s", most)
				}
				time.Sleep(time.Millisecond)
			}
			var ended ExperimentReport
			eventually(t, func() bool {
				var err error
				if ended, err = l.Experiment(t.Context(), "test"); err != nil {
					t.Fatal(err)
				}
				return ended.State == experiment.RolledBack
			})
			if b := ended.Breach; b == nil || b.Guard.String() != strings.TrimSuffix(c.guard, "ms") || !(b.Value > b.Guard.Max) || ended.Traffic != "news@1" || ended.Recent != 0 {
				t.Errorf("%+v, traffic goes to %s", b, ended.Traffic)
			}
			var said []string
			err := l.AuditEntries(t.Context(), AuditSelection{Subject: "test"}, func(e audit.Entry) error {
				if e.Action == "experiment.rollback" && e.Actor == galley.System {
					said = append(said, e.Detail)
				}
				return nil
			})
			if err != nil || len(said) != 1 || !strings.HasPrefix(said[0], c.detail) || !strings.HasSuffix(said[0], "; traffic goes to news@1") ||
				!strings.Contains(said[0], "; control news@1 in 10s: 50 requests, 0 errors, 0 empty, p99 4") || !strings.Contains(said[0], "; treatment news@2 in 10s: ") {
				t.Errorf("%q, %v", said, err)
			}
		})
	}
}

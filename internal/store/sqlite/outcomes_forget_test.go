package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"galley/experiment"
	"galley/internal/store"
	"galley/internal/store/storetest"
)

// TestForgetOutcomes: what ended long ago has no rows any more, and its totals
// are as they were. What runs keeps all rows.
func TestForgetOutcomes(t *testing.T) {
	s, err := Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	day := func(n int) time.Time { return began.AddDate(0, 0, n) }
	by := store.Commit{By: "ann", At: began, Action: "experiment.test"}
	ids := map[string]uint32{"": 0}
	for _, e := range []struct {
		name  string
		ended int // day; 0 if it runs
	}{{"long-ago", 10}, {"lately", 50}, {"running", 0}} {
		for seed := range 2 {
			if _, _, err := s.Register(t.Context(), storetest.Version("of-"+e.name, seed)); err != nil {
				t.Fatal(err)
			}
		}
		created, err := s.CreateExperiment(t.Context(), experiment.Experiment{
			Name: e.name, Model: "of-" + e.name, Versions: [2]int{1, 2}, Stages: []experiment.Stage{{Treatment: 5000, Since: began}}, Metric: "click",
			Unit: experiment.PerOutcome, Guards: experiment.DefaultGuards(), Salt: make([]byte, experiment.SaltSize), State: experiment.Running,
			Owner: "ann", Created: began, Updated: began,
		}, by)
		if err != nil {
			t.Fatal(err)
		}
		ids[e.name] = uint32(created.ID)
		if e.ended == 0 {
			continue
		}
		if _, _, err := s.ChangeExperiment(t.Context(), e.name, func(r store.ExperimentRecord) (store.ExperimentChange, error) {
			after, _, err := experiment.Step(r.Experiment, experiment.Ended{At: day(e.ended)})
			return store.ExperimentChange{Experiment: after, Commit: by}, err
		}); err != nil {
			t.Fatal(err)
		}
	}
	const many = forgottenAtOnce + 10 // more than go at a time
	record := func(name string, n int, made time.Time) {
		t.Helper()
		var rows []store.Outcome
		for i := range n {
			rows = append(rows, store.Outcome{
				Prediction: experiment.Prediction{Experiment: ids[name], Arm: experiment.Arm(i % 2), Version: 1, At: made, Place: uint64(i), Nonce: uint64(i)},
				Text:       "true", Micros: store.Micros, At: made,
			})
		}
		if _, err := s.RecordOutcomes(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
	}
	record("", many, day(5))
	record("", 3, day(45))
	record("long-ago", many, day(9))
	record("lately", 5, day(9))
	record("running", 7, day(9))
	totals := func() string {
		all := ""
		for _, name := range []string{"long-ago", "lately", "running"} {
			r, err := s.Experiment(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			all += fmt.Sprintf("%s %+v\n", name, r.Totals)
		}
		return all
	}
	before := totals()
	for _, c := range []struct{ day, removed int }{{9, many}, {10, 0}, {11, many}, {40, 0}, {400, 8}, {400, 0}} {
		if n, err := s.ForgetOutcomes(t.Context(), day(c.day)); err != nil || n != int64(c.removed) {
			t.Errorf("day %d: %d removed, not %d: %v", c.day, n, c.removed, err)
		}
	}
	if after := totals(); after != before {
		t.Errorf("totals were\n%sand are\n%s", before, after)
	}
}

// TestPlans: what is asked often finds its rows by an index.
func TestPlans(t *testing.T) {
	s, err := Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for query, want := range map[string]string{
		`SELECT id, body FROM jobs WHERE phase IN ('succeeded') AND spec_digest = 'd' ORDER BY number DESC LIMIT 10`: "USING INDEX jobs_spec (spec_digest=?)",
		`SELECT nonce, predicted FROM outcomes WHERE experiment = 7 LIMIT 10`:                                        "(experiment=?)",
		strings.NewReplacer("?1", "5", "?2", "10").Replace(forgetOutside):                                            "USING COVERING INDEX outcomes_outside (predicted<?)",
	} {
		var plan []string
		err := s.view(context.Background(), "plan", func(tx *sql.Tx) error {
			rows, err := tx.Query("EXPLAIN QUERY PLAN " + query)
			return each(rows, err, func() error {
				var id, parent, unused int
				var detail string
				err := rows.Scan(&id, &parent, &unused, &detail)
				plan = append(plan, detail)
				return err
			})
		})
		if err != nil || !strings.Contains(strings.Join(plan, "; "), want) || strings.Contains(strings.Join(plan, "; "), "SCAN outcomes") {
			t.Errorf("%s\n%q, not %s: %v", query, plan, want, err)
		}
	}
}

//go:build unix

package sqlite

import (
	"math"
	"testing"
	"time"

	"galley/trainer"
)

// Jobs of a galley without priorities get the defaults, and keep the rest to
// the last digit.
func TestMigrationOfJobs(t *testing.T) {
	dir := oldHome(t, 4)
	db := rawDatabase(t, dir)
	if _, err := db.Exec(`INSERT INTO jobs (id, phase, spec_digest, generation, body) VALUES ('old-1', 'queued', 'sha256:x', 7, ?)`, []byte(
		`{"job":"old-1","spec":{"name":"old","recipe":{"seed":18446744073709551615,"epochs":3,"optimizer":{"lr":0.1,"epsilon":1e-08}},"resources":{"cpus":2,"gpus":0}},`+
			`"owner":"ann","phase":"queued","attempts":null,"progress":{"step":0},"created":"2026-01-02T03:04:05.123456789Z","updated":"2026-01-02T03:04:06Z","generation":7}`,
	)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	j, err := open(t, dir).Job(t.Context(), "old-1")
	if err != nil {
		t.Fatal(err)
	}
	created := time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC)
	if j.Spec.Priority != 50 || j.Spec.Retries != 2 || j.Tenant != "ann" || !j.QueuedAt.Equal(created) || !j.Created.Equal(created) {
		t.Errorf("%+v", j)
	}
	if r := j.Spec.Recipe; r.Seed != math.MaxUint64 || r.Epochs != 3 || r.Optimizer.LR != 0.1 || r.Optimizer.Epsilon != 1e-8 || j.Spec.Resources != (trainer.Resources{CPUs: 2}) || j.Generation != 7 {
		t.Errorf("%+v", j)
	}
}

//go:build bench

package main

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"galley/internal/store"
	"galley/internal/store/sqlite"
	"galley/trainer"
)

// TestBenchReady measures how long the server takes from its start until it is
// ready, with 100,000 jobs in its home of which 1,000 wait, and what memory it
// has then, without a model.
func TestBenchReady(t *testing.T) {
	const waiting, past = 1_000, 99_000
	home := t.TempDir()
	fillWithJobs(t, home, waiting, past)
	var took []time.Duration
	var resident []int64
	for range 7 {
		began := time.Now()
		s := spawnServer(t, home, runtimePath(t))
		took = append(took, time.Since(began))
		time.Sleep(time.Second)
		resident = append(resident, residentBytes(t, s.process.Pid))
		s.drain(t)
	}
	slices.Sort(took)
	slices.Sort(resident)
	t.Logf("%d jobs, %d of them wait: ready after %v (%v to %v), with %d MB resident (%d to %d)", waiting+past, waiting,
		took[3], took[0], took[6], resident[3]/1e6, resident[0]/1e6, resident[6]/1e6)
	if took[3] > 500*time.Millisecond {
		t.Error("a server has to be ready in 500 ms")
	}
	if resident[3] > 60e6 {
		t.Error("a server without models has to do with 60 MB")
	}
}

// fillWithJobs makes a home with jobs that wait for more processors than the
// machine has, and jobs that succeeded.
func fillWithJobs(t *testing.T, home string, waiting, past int) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	spec, problems := trainer.ParseFile([]byte("apiVersion: galley/v1\nkind: Train\nname: many\ntask: text-mlm\ndata: {dataset: many}\nresources: {cpus: 1024}\n"), nil)
	if problems != nil {
		t.Fatal(problems)
	}
	at := time.Now().UTC()
	j := trainer.Job{ID: "waits", Spec: spec, SpecDigest: spec.Digest(), Owner: "ann", Tenant: "desk", Phase: trainer.Queued, Created: at, Updated: at, QueuedAt: at, Memory: 1 << 30}
	for range 2 {
		if _, err := s.CreateJob(t.Context(), j, store.Commit{By: "ann", At: at}); err != nil {
			t.Fatal(err)
		}
		j.ID, j.Phase, j.Versions = "past", trainer.Succeeded, []string{"many@1"}
		j.Attempts = []trainer.Attempt{{Number: 1, Started: at, Ended: &at, Outcome: "finished"}}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(home, "galley.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for id, n := range map[string]int{"waits": waiting, "past": past} {
		_, err := db.ExecContext(t.Context(), `WITH RECURSIVE copy (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copy WHERE n < ?)
			INSERT INTO jobs (id, phase, spec_digest, generation, body)
			SELECT id || '-' || n, phase, spec_digest, generation, CAST(json_set(CAST(body AS TEXT), '$.job', id || '-' || n) AS BLOB)
			FROM copy, jobs WHERE id = ?`, n-1, id)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// residentBytes is what a process has of the machine's memory.
func residentBytes(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kib, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

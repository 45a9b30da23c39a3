//go:build bench

package control

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"galley/internal/blob"
	"galley/internal/store"
	"galley/internal/store/sqlite"
	"galley/trainer"
	"galley/trainer/launch/process"
)

// TestBenchManyJobs measures how long a home with 12,000 jobs, of which
// 10,000 wait, takes to open, to plan and to explain.
func TestBenchManyJobs(t *testing.T) {
	const all, waiting = 12_000, 10_000
	ctx, home := t.Context(), t.TempDir()
	s, err := sqlite.Open(ctx, home)
	if err != nil {
		t.Fatal(err)
	}
	spec, problems := trainer.ParseFile(jobFile("many", "text-mlm", ""), nil)
	if problems != nil {
		t.Fatal(problems)
	}
	at := time.Now().UTC()
	for i := range all {
		j := trainer.Job{
			ID: fmt.Sprint("job-", i), Spec: spec, SpecDigest: spec.Digest(), Owner: "ann", Tenant: fmt.Sprint("tenant-", i%20), Phase: trainer.Succeeded,
			Created: at, Updated: at, QueuedAt: at, Memory: 1 << 30,
			Attempts: []trainer.Attempt{{Number: 1, Started: at, Ended: &at, Outcome: "finished"}}, Versions: []string{"many@1"},
		}
		if i >= all-waiting {
			j.Phase, j.Attempts, j.Versions = trainer.Queued, nil, nil
			j.Spec.Priority = i % 100
		}
		if _, err := s.CreateJob(ctx, j, store.Commit{By: "ann", At: at}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.Open(filepath.Join(home, "blobs"), blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if s, err = sqlite.Open(ctx, home); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := Open(ctx, Options{
		Home: home, Store: s, Blobs: blobs, Opener: noOpener{}, Drivers: drivers, CPUs: 2,
		Launcher: process.Launcher{Args: []string{"attempt"}}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	opened := time.Since(began)
	began = time.Now()
	if err := c.fill(ctx); err != nil {
		t.Fatal(err)
	}
	filled := time.Since(began)
	var took []time.Duration
	for range 11 {
		c.board.stir()
		began = time.Now()
		c.board.decide(time.Now())
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	planned := took[len(took)/2]
	began = time.Now()
	if _, err := c.Explain(ctx, fmt.Sprint("job-", all-1)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d jobs, %d of them wait: opened in %v, read in %v, planned in %v, explained in %v", all, waiting, opened, filled, planned, time.Since(began))
	if opened > 500*time.Millisecond {
		t.Error("a home has to open in 500 ms")
	}
	if planned > 50*time.Millisecond {
		t.Error("a plan has to take at most 50 ms")
	}
}

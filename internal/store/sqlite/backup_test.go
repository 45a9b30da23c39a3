package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"galley"
	"galley/internal/store"
	"galley/internal/store/storetest"
	"galley/registry"
)

// A snapshot that is taken while others write is one state: what is in it
// fits together, and its log is whole.
func TestSnapshotBesideWriters(t *testing.T) {
	s := open(t, t.TempDir())
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			v, _, err := s.Register(context.Background(), storetest.Version("news", n))
			if err == nil {
				_, err = s.Promote(context.Background(), registry.Request{Model: "news", Alias: "prod", Target: v.Number, Expect: int64(n - 1)})
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 5 {
		dir := t.TempDir()
		if err := s.Snapshot(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		then := open(t, dir)
		if err := then.CheckIntegrity(t.Context()); err != nil {
			t.Error(err)
		}
		head, err := then.AuditHead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		verifyAudit(t, then, head.Entries)
		m, err := then.Model(t.Context(), "news")
		if galley.CodeOf(err) == galley.NotFound && head.Entries == 0 {
			continue
		}
		a, _ := m.Alias("prod")
		if err != nil || int64(len(m.Versions))+a.Generation != head.Entries {
			t.Errorf("%d versions, generation %d, %d entries, %v", len(m.Versions), a.Generation, head.Entries, err)
		}
	}
	stop()
	writing.Wait()
	wantError(t, s.Snapshot(t.Context(), filepath.Join(t.TempDir(), "absent")), galley.PermissionDenied, "may not write there")
}

func TestRestoringCutOff(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, RestoreFolder), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), dir)
	wantError(t, err, galley.FailedPrecondition, "galley restore FILE --replace")
	release, err := Lock(dir) // it gave the lock free
	if err != nil {
		t.Fatal(err)
	}
	_, err = Lock(dir)
	wantError(t, err, galley.FailedPrecondition, fmt.Sprint("pid ", os.Getpid()))
	if err := release(); err != nil {
		t.Error(err)
	}
}

// A page that was overwritten fails what reads it, and says what to do; what
// lies elsewhere is still there.
func TestDamagedPage(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateJob(t.Context(), storetest.Job("a"), store.Commit{Action: "job.submit"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Register(t.Context(), storetest.Version("news", 1)); err != nil {
		t.Fatal(err)
	}
	lines := make([]store.Line, 500)
	for i := range lines {
		lines[i].Text = strings.Repeat("x", 100)
	}
	if err := s.AppendLines(t.Context(), "a", lines); err != nil {
		t.Fatal(err)
	}
	var page, size int64
	if err := s.read.QueryRow(`SELECT rootpage FROM sqlite_master WHERE name = 'job_lines'`).Scan(&page); err != nil {
		t.Fatal(err)
	}
	if err := s.read.QueryRow(`PRAGMA page_size`).Scan(&size); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, databaseFile), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(strings.Repeat("\xaa", int(size))), (page-1)*size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	const says = "galley restore FILE --replace"
	_, err = s.Lines(t.Context(), "a", 0, 10)
	wantError(t, err, galley.DataLoss, says)
	wantError(t, s.AppendLines(t.Context(), "a", lines), galley.DataLoss, says)
	wantError(t, s.CheckIntegrity(t.Context()), galley.DataLoss, says)
	wantError(t, s.Snapshot(t.Context(), t.TempDir()), galley.DataLoss, says)

	if _, err := s.Job(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if _, err := s.Version(t.Context(), "news", 1); err != nil {
		t.Error(err)
	}
	if _, err := s.Promote(t.Context(), registry.Request{Model: "news", Alias: "prod", Target: 1}); err != nil {
		t.Errorf("a change elsewhere: %v", err)
	}
	verifyAudit(t, s, 3)
}

// A log whose end did not reach the disk, or reached it torn, is read up to
// its last whole commit.
func TestTornLog(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := s.write.Exec(`PRAGMA wal_autocheckpoint = 0`); err != nil {
		t.Fatal(err)
	}
	const jobs = 12
	sizes := []int64{} // of the log, after each commit
	log := filepath.Join(dir, databaseFile+"-wal")
	for i := range jobs {
		if _, err := s.CreateJob(t.Context(), storetest.Job(fmt.Sprint("job-", i)), store.Commit{Action: "job.submit"}); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(log)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, info.Size())
	}
	database, err := os.ReadFile(filepath.Join(dir, databaseFile))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for i := 2; i < jobs; i += 3 {
		begin, end := sizes[i-1], sizes[i] // of the commit that is torn
		for name, wal := range map[string][]byte{
			"cut off":  whole[:(begin+end)/2],
			"zeros":    append(append([]byte{}, whole[:begin+10]...), make([]byte, end-begin)...),
			"one bit":  flip(whole[:end], begin+100),
			"last bit": flip(whole[:end], end-1),
		} {
			torn := t.TempDir()
			if err := os.WriteFile(filepath.Join(torn, databaseFile), database, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(torn, databaseFile+"-wal"), wal, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(t.Context(), torn)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			all, err := s.Jobs(t.Context(), store.JobQuery{})
			if err != nil || len(all) != i {
				t.Errorf("%s: %d jobs of %d that were whole: %v", name, len(all), i, err)
			}
			verifyAudit(t, s, int64(i))
			if err := s.CheckIntegrity(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func flip(data []byte, at int64) []byte {
	data = append([]byte{}, data...)
	data[at] ^= 0x40
	return data
}

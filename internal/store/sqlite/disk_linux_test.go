package sqlite

import (
	"strings"
	"syscall"
	"testing"

	"galley"
	"galley/internal/store"
	"galley/internal/store/storetest"
)

// A disk that fills up refuses changes, keeps what was acknowledged, and the
// store goes on when there is space again.
func TestRealFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("galley-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	defer syscall.Unmount(dir, 0)
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.CreateJob(t.Context(), storetest.Job("a"), store.Commit{Action: "job.submit"}); err != nil {
		t.Fatal(err)
	}
	stored := 0
	for ; err == nil; stored++ {
		if stored > 1000 {
			t.Fatal("the disk does not fill up")
		}
		err = s.AppendLines(t.Context(), "a", []store.Line{{Text: strings.Repeat("x", store.MaxLine)}})
	}
	stored--
	wantError(t, err, galley.ResourceExhausted, "the disk is full")
	_, err = s.CreateJob(t.Context(), storetest.Job("b"), store.Commit{Action: "job.submit", Detail: strings.Repeat("x", store.MaxLine)})
	wantError(t, err, galley.ResourceExhausted, "the disk is full")
	verifyAudit(t, s, 1)
	lines, err := s.Lines(t.Context(), "a", 0, store.MaxList)
	if err != nil || len(lines) != stored {
		t.Errorf("%d lines of %d acknowledged, %v", len(lines), stored, err)
	}
	if err := syscall.Mount("galley-test", dir, "tmpfs", syscall.MS_REMOUNT, "size=4m"); err != nil {
		t.Skipf("cannot be mounted again: %v", err)
	}
	if err := s.AppendLines(t.Context(), "a", []store.Line{{Text: "more"}}); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

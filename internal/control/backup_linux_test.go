package control

import (
	"bytes"
	"strings"
	"syscall"
	"testing"
	"time"

	"galley"
)

// A disk that a backup does not fit on is said, and the restore leaves nothing
// behind.
func TestRestoreOnFullDisk(t *testing.T) {
	_, archive, _ := backedUp(t)
	home := t.TempDir()
	if err := syscall.Mount("galley-test", home, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	defer syscall.Unmount(home, 0)
	_, err := restore(t, home, archive, false)
	if galley.CodeOf(err) != galley.ResourceExhausted || !strings.Contains(err.Error(), "the disk is full") {
		t.Error(err)
	}
	if left := listing(t, home); strings.Contains(left, "restoring") {
		t.Errorf("left behind:\n%s", left)
	}
	if err := syscall.Mount("galley-test", home, "tmpfs", syscall.MS_REMOUNT, "size=4m"); err != nil {
		t.Skipf("cannot be mounted again: %v", err)
	}
	r := Restore{Home: home, By: "ann", Clock: time.Now}
	if _, err := r.Run(t.Context(), bytes.NewReader(archive), int64(len(archive))); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

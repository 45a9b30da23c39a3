package blob

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"testing"

	"galley"
)

// small mounts a file system of so many bytes, or skips the test.
func small(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("galley-test", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	s, err := Open(small(t, "256k"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := put(t, s, "before")
	_, _, err = s.Put(t.Context(), bytes.NewReader(make([]byte, 1<<20)))
	if galley.CodeOf(err) != galley.ResourceExhausted || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("%v", err)
	}
	if err := s.Verify(t.Context(), d); err != nil || leftovers(t, s) != 0 {
		t.Errorf("%v, %d temporary files", err, leftovers(t, s))
	}
	put(t, s, strings.Repeat("x", 64<<10)) // what was half written is gone again
}

func TestReadOnlyDisk(t *testing.T) {
	dir := small(t, "256k")
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := put(t, s, "before")
	if err := syscall.Mount("galley-test", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("cannot be mounted again: %v", err)
	}
	_, _, err = s.Put(t.Context(), strings.NewReader("x"))
	if galley.CodeOf(err) != galley.PermissionDenied || galley.AsError(err).Remedy == "" {
		t.Errorf("put: %v", err)
	}
	if err := s.Verify(t.Context(), d); err != nil {
		t.Errorf("what is there can be read: %v", err)
	}
	if _, err := Open(dir+string(os.PathSeparator)+"other", Options{}); galley.CodeOf(err) != galley.PermissionDenied {
		t.Errorf("open: %v", err)
	}
}

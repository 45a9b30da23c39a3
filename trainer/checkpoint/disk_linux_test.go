package checkpoint

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// limitedFolder tells a child process the folder to write to under a limit on
// the size of files.
const limitedFolder = "GALLEY_CHECKPOINT_LIMITED"

// TestFileTooLarge has a child process, whose files cannot grow beyond 64 kB,
// write a checkpoint of 400 kB: what a full disk does, without one.
func TestFileTooLarge(t *testing.T) {
	if dir := os.Getenv(limitedFolder); dir != "" {
		writeLimited(dir)
	}
	dir := t.TempDir()
	state, sections := sample()
	write(t, dir, "step-1", state, sections...)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestFileTooLarge$")
	cmd.Env = append(os.Environ(), limitedFolder+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	keepsPrevious(t, dir, state)
}

// writeLimited is the child: it ends the process with 0 if writing failed as
// it should.
func writeLimited(dir string) {
	signal.Ignore(syscall.SIGXFSZ)
	limit := syscall.Rlimit{Cur: 64 << 10, Max: 64 << 10}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		println(err.Error())
		os.Exit(1)
	}
	for _, name := range []string{"step-1", "step-2"} {
		if err := Write(dir, name, State{Step: 2}, Section{"weights", make([]float32, 100_000)}); !errors.Is(err, syscall.EFBIG) {
			println("writing over the limit:", err)
			os.Exit(1)
		}
	}
	os.Exit(0)
}

// TestFullDisk writes to a file system of 64 kB, where root may mount one.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no file system of its own: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	state, sections := sample()
	write(t, dir, "step-1", state, sections...)
	for _, name := range []string{"step-1", "step-2"} {
		err := Write(dir, name, State{Step: 2}, Section{"weights", make([]float32, 100_000)})
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("writing to a full disk: %v", err)
		}
	}
	keepsPrevious(t, dir, state)
}

func TestFolderGone(t *testing.T) {
	if err := Write(filepath.Join(t.TempDir(), "none"), "step-1", State{}); err == nil {
		t.Error("written to a folder that is not there")
	}
}

// keepsPrevious holds that dir has the checkpoint of before, whole, and
// nothing else.
func keepsPrevious(t *testing.T, dir string, want State) {
	t.Helper()
	if got, err := ReadState(dir, "step-1"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the checkpoint before is %+v, %v", got, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "step-1"+suffix && !strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s is left", e.Name())
		}
	}
}

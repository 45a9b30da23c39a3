package faults

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// A Disk is a small file system of its own, in a file.
type Disk struct {
	Dir   string // where it is mounted
	image string
}

const (
	freeze   = 0xC0045877 // FIFREEZE
	thaw     = 0xC0045878 // FITHAW
	shutdown = 0x8004587D // EXT4_IOC_SHUTDOWN

	noLogFlush uint32 = 2 // EXT4_GOING_FLAGS_NOLOGFLUSH
)

// NewDisk makes and mounts a disk of so many bytes, until the test ends. It
// returns nil where this user may not.
func NewDisk(t testing.TB, size int64) *Disk {
	t.Helper()
	dir := t.TempDir()
	d := &Disk{Dir: filepath.Join(dir, "disk"), image: filepath.Join(dir, "image")}
	image, err := os.Create(d.image)
	if err == nil {
		err = errors.Join(image.Truncate(size), image.Close(), os.Mkdir(d.Dir, 0o700))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []*exec.Cmd{exec.Command("mkfs.ext4", "-q", "-F", d.image), d.mount()} {
		if out, err := command.CombinedOutput(); err != nil {
			t.Logf("no disk of its own can be made here: %v: %s", err, out)
			return nil
		}
	}
	t.Cleanup(func() {
		_ = d.ioctl(thaw, 0) // of a test that failed
		if err := d.unmount(); err != nil {
			t.Errorf("the disk is still in use: %v", err)
			_ = syscall.Unmount(d.Dir, syscall.MNT_DETACH)
		}
	})
	return d
}

func (d *Disk) mount() *exec.Cmd { return exec.Command("mount", "-o", "loop", d.image, d.Dir) }

// unmount waits for processes that have just been killed.
func (d *Disk) unmount() (err error) {
	for range 200 {
		if err = syscall.Unmount(d.Dir, 0); !errors.Is(err, syscall.EBUSY) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

func (d *Disk) ioctl(request, argument uintptr) error {
	f, err := os.Open(d.Dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, argument); errno != 0 {
		return errno
	}
	return nil
}

// ballast is the file that fills the disk.
func (d *Disk) ballast() string { return filepath.Join(d.Dir, "ballast") }

// Fill leaves no room on the disk. A write that is under way may be cut
// short.
func (d *Disk) Fill() error {
	f, err := os.Create(d.ballast())
	if err != nil {
		return ignore(err, syscall.ENOSPC)
	}
	_, err = io.Copy(f, endless{})
	return errors.Join(ignore(err, syscall.ENOSPC), f.Close())
}

// Free makes room again, also after Restore: a cut may have brought a ballast
// back.
func (d *Disk) Free() error {
	return ignore(os.Remove(d.ballast()), os.ErrNotExist)
}

// Freeze makes all writes wait this long.
func (d *Disk) Freeze(long time.Duration) error {
	if err := d.ioctl(freeze, 0); err != nil {
		return err
	}
	time.Sleep(long)
	return d.ioctl(thaw, 0)
}

// Cut cuts the power: writes fail from now on, and what was not flushed is
// lost.
func (d *Disk) Cut() error {
	how := noLogFlush
	return d.ioctl(shutdown, uintptr(unsafe.Pointer(&how)))
}

// Restore brings the power back after Cut. Nobody may use the disk.
func (d *Disk) Restore() error {
	if err := d.unmount(); err != nil {
		return err
	}
	return d.mount().Run()
}

func ignore(err, known error) error {
	if errors.Is(err, known) {
		return nil
	}
	return err
}

// endless is a reader without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

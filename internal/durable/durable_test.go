package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"galley"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, mode := range []fs.FileMode{0o600, 0o644} {
		if err := Write(path, mode, []byte(mode.String())); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode()&^mode != 0 { // there may be an umask
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
	broke := errors.New("it broke")
	if err := Replace(path, 0o600, func(f *os.File) error { _, _ = f.WriteString("half"); return broke }); !errors.Is(err, broke) {
		t.Error(err)
	}
	if err := Write(filepath.Join(dir, "absent", "file"), 0o600, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	folder := filepath.Join(dir, "folder")
	if err := errors.Join(os.MkdirAll(filepath.Join(folder, "x"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := Write(folder, 0o600, nil); err == nil {
		t.Error("a folder was written over")
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "-rw-r--r--" {
		t.Errorf("%q, %v", got, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.tmp")); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestClean(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out[1].csv")
	mine := path + ".ABCDEFGHIJ.tmp"
	others := []string{path, path + ".tmp", path + ".short.tmp", path + ".part.ABCDEFGHIJ.tmp", filepath.Join(dir, "out1.csv.ABCDEFGHIJ.tmp")}
	for _, name := range append(others, mine) {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Clean(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mine); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for _, name := range others {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
	if err := Clean(filepath.Join(dir, "absent", "file")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestSyncFolder(t *testing.T) {
	if err := SyncFolder(t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := SyncFolder(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		of   func(string, error) error
		err  error
		code galley.Code
		text string
	}{
		{WriteError, syscall.ENOSPC, galley.ResourceExhausted, "home: the disk is full: no space left on device — free some space and try again; what was stored is whole"},
		{WriteError, syscall.EDQUOT, galley.ResourceExhausted, "the disk is full"},
		{WriteError, syscall.EFBIG, galley.ResourceExhausted, "raise the limit on file sizes"},
		{WriteError, syscall.EROFS, galley.PermissionDenied, "home: galley may not write there: read-only file system — make the folder writable for this user, or set GALLEY_HOME to one that is"},
		{WriteError, fs.ErrPermission, galley.PermissionDenied, "galley may not write there"},
		{WriteError, syscall.ENOTDIR, galley.FailedPrecondition, "a file is in its way"},
		{WriteError, syscall.EIO, galley.Unavailable, "input/output error"},
		{WriteError, galley.Errorf(galley.NotFound, "x", "is gone"), galley.NotFound, "x: is gone"},
		{ReadError, fs.ErrNotExist, galley.NotFound, "home: there is no such file"},
		{ReadError, fs.ErrPermission, galley.PermissionDenied, "may not be read"},
		{ReadError, syscall.EIO, galley.Unavailable, "home: the disk failed: input/output error — try again, and look at the disk's health; what stays unreadable comes back from a backup: galley restore"},
		{ReadError, syscall.EISDIR, galley.InvalidArgument, "is a folder, not a file"},
		{ReadError, syscall.EMFILE, galley.Unavailable, "cannot be read: too many open files"},
		{ReadError, galley.Errorf(galley.DataLoss, "x", "is damaged"), galley.DataLoss, "x: is damaged"},
	} {
		err := c.of("home", fmt.Errorf("%w", c.err))
		if galley.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v", err)
		}
	}
	if WriteError("home", nil) != nil || ReadError("home", nil) != nil {
		t.Error("nil is no error")
	}
}

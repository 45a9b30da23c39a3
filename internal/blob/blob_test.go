package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"galley"
)

func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "blobs"), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t testing.TB, s *Store, text string) galley.Digest {
	t.Helper()
	d, size, err := s.Put(t.Context(), strings.NewReader(text))
	if err != nil || size != int64(len(text)) {
		t.Fatalf("put %d of %d bytes: %v", size, len(text), err)
	}
	return d
}

// leftovers counts the files in the temporary folder.
func leftovers(t testing.TB, s *Store) int {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(s.dir, tempFolder))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func TestPutAndOpen(t *testing.T) {
	s := open(t, Options{})
	for _, text := range []string{"", "a headline", strings.Repeat("x", 1<<20)} {
		d := put(t, s, text)
		if d != galley.DigestBytes([]byte(text)) {
			t.Errorf("digest %s", d)
		}
		f, size, err := s.OpenVerified(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if err != nil || string(got) != text || size != int64(len(text)) {
			t.Errorf("%d bytes, size %d, %v", len(got), size, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		info, err := os.Stat(s.Path(d))
		if err != nil || info.Mode().Perm() != 0o400 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		put(t, s, text) // again
	}
	if n := leftovers(t, s); n != 0 {
		t.Errorf("%d temporary files left", n)
	}
	var listed []Blob
	for b, err := range s.List() {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, b)
	}
	if len(listed) != 3 || listed[0].Digest > listed[1].Digest || listed[1].Digest > listed[2].Digest {
		t.Errorf("list %v", listed)
	}
}

func TestPutExpect(t *testing.T) {
	s := open(t, Options{})
	d := galley.DigestBytes([]byte("right"))
	if _, err := s.PutExpect(t.Context(), d, strings.NewReader("wrong")); galley.CodeOf(err) != galley.DataLoss {
		t.Errorf("wrong bytes: %v", err)
	}
	if _, err := s.Stat(d); galley.CodeOf(err) != galley.NotFound {
		t.Errorf("after wrong bytes: %v", err)
	}
	if n, err := s.PutExpect(t.Context(), d, strings.NewReader("right")); n != 5 || err != nil {
		t.Errorf("right bytes: %d, %v", n, err)
	}
	if n, err := s.PutExpect(t.Context(), d, iotest.ErrReader(errors.New("read"))); n != 5 || err != nil {
		t.Errorf("there already: %d, %v", n, err)
	}
}

func TestPutFails(t *testing.T) {
	s := open(t, Options{MaxSize: 10})
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	broken := errors.New("the line broke")
	tests := map[string]struct {
		ctx  context.Context
		r    io.Reader
		code galley.Code
	}{
		"too large": {t.Context(), strings.NewReader("12345678901"), galley.ResourceExhausted},
		"cancelled": {canceled, strings.NewReader("x"), galley.Canceled},
		"broken":    {t.Context(), io.MultiReader(strings.NewReader("x"), iotest.ErrReader(broken)), galley.Unknown},
	}
	for name, tt := range tests {
		if _, _, err := s.Put(tt.ctx, tt.r); galley.CodeOf(err) != tt.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	put(t, s, "1234567890")
	if n := leftovers(t, s); n != 0 {
		t.Errorf("%d temporary files left", n)
	}
}

func TestMissingAndInvalid(t *testing.T) {
	s := open(t, Options{})
	absent := galley.DigestBytes([]byte("absent"))
	for d, code := range map[galley.Digest]galley.Code{
		absent:                       galley.NotFound,
		"":                           galley.InvalidArgument,
		"sha256:../../../etc/passwd": galley.InvalidArgument,
	} {
		if _, err := s.Stat(d); galley.CodeOf(err) != code {
			t.Errorf("stat %q: %v", d, err)
		}
		if _, _, err := s.Open(d); galley.CodeOf(err) != code {
			t.Errorf("open %q: %v", d, err)
		}
		if err := s.Verify(t.Context(), d); galley.CodeOf(err) != code {
			t.Errorf("verify %q: %v", d, err)
		}
	}
	if _, _, err := s.PutFile(t.Context(), filepath.Join(s.dir, "absent")); galley.CodeOf(err) != galley.NotFound {
		t.Errorf("put file: %v", err)
	}
}

func TestDamageIsFound(t *testing.T) {
	s := open(t, Options{})
	d := put(t, s, "these bytes matter")
	if err := os.Chmod(s.Path(d), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Path(d), []byte("these bytes natter"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), d); galley.CodeOf(err) != galley.DataLoss {
		t.Errorf("verify: %v", err)
	}
	if _, _, err := s.OpenVerified(t.Context(), d); galley.CodeOf(err) != galley.DataLoss {
		t.Errorf("open: %v", err)
	}
	if _, err := s.VerifiedPath(t.Context(), d); galley.CodeOf(err) != galley.DataLoss {
		t.Errorf("path: %v", err)
	}
	put(t, s, "these bytes matter") // storing the bytes again repairs the blob
	if err := s.Verify(t.Context(), d); err != nil {
		t.Errorf("after repair: %v", err)
	}
}

// What was verified is not read again, unless it was written since.
func TestVerifiedPath(t *testing.T) {
	s := open(t, Options{})
	d := put(t, s, "these bytes matter")
	damage := func(at time.Time) {
		t.Helper()
		err := errors.Join(os.Chmod(s.Path(d), 0o600), os.WriteFile(s.Path(d), []byte("these bytes natter"), 0o600), os.Chtimes(s.Path(d), at, at))
		if err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(s.Path(d))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if path, err := s.VerifiedPath(t.Context(), d); err != nil || path != s.Path(d) {
			t.Errorf("%s, %v", path, err)
		}
	}
	damage(info.ModTime()) // as a disk does, not a write: found by who has not read it yet
	if _, err := s.VerifiedPath(t.Context(), d); err != nil {
		t.Errorf("read again: %v", err)
	}
	if _, err := reopened(t, s).VerifiedPath(t.Context(), d); galley.CodeOf(err) != galley.DataLoss {
		t.Errorf("another process: %v", err)
	}
	damage(info.ModTime().Add(time.Second))
	if _, err := s.VerifiedPath(t.Context(), d); galley.CodeOf(err) != galley.DataLoss || galley.AsError(err).Remedy == "" {
		t.Errorf("written since: %v", err)
	}
	if _, err := s.VerifiedPath(t.Context(), galley.DigestBytes(nil)); galley.CodeOf(err) != galley.NotFound {
		t.Error(err)
	}
}

func TestOpenRemovesInterruptedWrites(t *testing.T) {
	s := open(t, Options{})
	d := put(t, s, "kept")
	if err := os.WriteFile(filepath.Join(s.dir, tempFolder, "put-1"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := Open(s.dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n := leftovers(t, again); n != 0 {
		t.Errorf("%d temporary files left", n)
	}
	if err := again.Verify(t.Context(), d); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(file, "blobs"), Options{}); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Errorf("below a file: %v", err)
	}
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere, so a read-only folder cannot be had")
	}
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o500); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(folder, "blobs"), Options{}); galley.CodeOf(err) != galley.PermissionDenied {
		t.Errorf("in a read-only folder: %v", err)
	}
}

// A disk that fails to read may do better the next time: that is not damage.
func TestReadErrors(t *testing.T) {
	d := galley.DigestBytes(nil)
	for err, want := range map[error]galley.Code{
		syscall.EIO: galley.Unavailable, syscall.EACCES: galley.PermissionDenied, syscall.ENOENT: galley.NotFound,
	} {
		got := galley.AsError(missing(d, &os.PathError{Op: "read", Path: "/home/x", Err: err}))
		if got.Code != want || got.Subject != string(d) || want == galley.Unavailable && !strings.HasPrefix(got.Remedy, "try again") {
			t.Errorf("%v: %#v", err, got)
		}
	}
}

func TestConcurrentPuts(t *testing.T) {
	s := open(t, Options{})
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 10 {
				text := fmt.Sprint("blob ", (worker+i)%5)
				d, _, err := s.Put(context.Background(), strings.NewReader(text))
				if err != nil || s.Verify(context.Background(), d) != nil {
					t.Errorf("%s: %v", text, err)
				}
			}
		})
	}
	wg.Wait()
	n := 0
	for range s.List() {
		n++
	}
	if n != 5 || leftovers(t, s) != 0 {
		t.Errorf("%d blobs, %d temporary files", n, leftovers(t, s))
	}
}

// What was put is what a map would hold.
func TestAgainstMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		s, err := Open(dir, Options{MaxSize: 40})
		if err != nil {
			rt.Fatal(err)
		}
		model := map[galley.Digest][]byte{}
		for range rapid.IntRange(1, 4).Draw(rt, "puts") {
			data := rapid.SliceOfN(rapid.Byte(), 0, 45).Draw(rt, "data")
			d, _, err := s.Put(context.Background(), iotest.OneByteReader(bytes.NewReader(data)))
			if (err == nil) != (len(data) <= 40) {
				rt.Fatalf("%d bytes: %v", len(data), err)
			}
			if err == nil {
				model[d] = data
			}
		}
		n := 0
		for b, err := range s.List() {
			if err != nil || b.Size != int64(len(model[b.Digest])) || s.Verify(context.Background(), b.Digest) != nil {
				rt.Fatalf("%v: %v", b, err)
			}
			n++
		}
		if n != len(model) {
			rt.Fatalf("%d blobs, want %d", n, len(model))
		}
	})
}

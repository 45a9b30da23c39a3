package library

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"galley"
)

var here = platform{runtime.GOOS, runtime.GOARCH}

// fakeELF is the least that is a shared library for a machine.
func fakeELF(machine elf.Machine, body string) []byte {
	h := elf.Header64{Type: uint16(elf.ET_DYN), Machine: uint16(machine), Version: 1, Ehsize: 64, Phentsize: 56, Shentsize: 64}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, h)
	b.WriteString(body)
	return b.Bytes()
}

// ours is a library for the machine the test runs on.
func ours(t testing.TB, body string) []byte {
	switch here {
	case platform{"linux", "amd64"}:
		return fakeELF(elf.EM_X86_64, body)
	case platform{"linux", "arm64"}:
		return fakeELF(elf.EM_AARCH64, body)
	}
	t.Skipf("no library is made up for %s", here)
	return nil
}

func sum(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}

type file struct {
	name string
	data []byte
	mode byte // tar type flag
}

func tgz(t testing.TB, files ...file) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data)), Typeflag: f.mode}
		if f.mode == tar.TypeSymlink {
			h.Linkname, h.Size = string(f.data), 0
			f.data = nil
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	z.Close()
	return b.Bytes()
}

func wheel(t testing.TB, files ...file) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		out, err := w.Create(f.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return b.Bytes()
}

// program puts a shell script on a PATH that holds nothing else.
func program(t *testing.T, dir, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// deliver is a script that copies an archive into the working folder.
func deliver(t *testing.T, dir, name string, archive []byte) string {
	t.Helper()
	path := filepath.Join(dir, "archive-"+name)
	if err := os.WriteFile(path, archive, 0o644); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/bin/cp %q ./%s", path, name)
}

func emptyPath(t *testing.T) string {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	return dir
}

// options name a cache whose path is no pattern.
func options(t testing.TB) Options {
	return Options{Cache: filepath.Join(t.TempDir(), "[a"), System: []string{}}
}

const member = "package/lib.so"

// obtainFrom is Obtain with other sources than the real ones.
func obtainFrom(ctx context.Context, opts Options, progress io.Writer, from ...source) (Library, error) {
	opts.sources = append([]source{}, from...)
	return Obtain(ctx, opts, progress)
}

func pinOf(archive, library []byte) pin { return pin{sum(archive), member, sum(library)} }

func TestObtainFromNpm(t *testing.T) {
	lib := ours(t, "npm's")
	archive := tgz(t, file{"../../evil", []byte("x"), tar.TypeReg}, file{"package/readme", []byte("x"), tar.TypeReg}, file{member, lib, tar.TypeReg})
	bin := emptyPath(t)
	program(t, bin, "npm", `[ "$1 $2 $3" = "pack onnxruntime-node@`+Version+` --ignore-scripts" ] || exit 9
`+deliver(t, bin, "onnxruntime-node-1.tgz", archive))
	opts := options(t)
	var progress strings.Builder
	got, err := obtainFrom(context.Background(), opts, &progress, npm(pinOf(archive, lib)))
	if err != nil {
		t.Fatal(err)
	}
	if got.Source != "npm" || got.Version != Version {
		t.Errorf("got %+v", got)
	}
	if data, err := os.ReadFile(got.Path); err != nil || !bytes.Equal(data, lib) {
		t.Errorf("the file is not the library: %v", err)
	}
	for _, want := range []string{"npm pack onnxruntime-node@" + Version, got.Path, sum(lib), "pinned"} {
		if !strings.Contains(progress.String(), want) {
			t.Errorf("the progress does not say %q:\n%s", want, &progress)
		}
	}
	opts.sources = []source{npm(pinOf(archive, lib))}
	if found, err := Find(opts); err != nil || found != got {
		t.Errorf("found %+v, %v; want %+v", found, err, got)
	}
	entries, _ := os.ReadDir(filepath.Dir(got.Path))
	if len(entries) != 2 {
		t.Errorf("the cache holds %v, want the library and its record", entries)
	}
	// A second call fetches nothing.
	idle := npm(pinOf(archive, lib))
	idle.fetch = nil
	if again, err := obtainFrom(context.Background(), opts, nil, idle); err != nil || again != got {
		t.Errorf("obtained %+v, %v; want %+v", again, err, got)
	}
	// A damaged file is not used, and obtained anew.
	if err := os.WriteFile(got.Path, lib[:len(lib)-1], 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(opts); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a truncated library: %v", err)
	}
	if again, err := obtainFrom(context.Background(), opts, nil, npm(pinOf(archive, lib))); err != nil || again != got {
		t.Errorf("obtained %+v, %v; want %+v", again, err, got)
	}
}

func TestObtainFromTheNextSource(t *testing.T) {
	lib := ours(t, "pip's")
	archive := wheel(t, file{name: "a"}, file{name: member, data: lib})
	bin := emptyPath(t)
	program(t, bin, "npm", "echo npm error network getaddrinfo >&2; exit 1")
	program(t, bin, "python3", `echo no module named pip >&2; exit 1`)
	program(t, bin, "pip3", `case "$*" in *"onnxruntime==`+Version+` --no-deps --only-binary=:all:"*"--platform any"*) ;; *) exit 9;; esac
`+deliver(t, bin, "onnxruntime-1-any.whl", archive))
	var progress strings.Builder
	got, err := obtainFrom(context.Background(), options(t), &progress, npm(pinOf(nil, nil)), pip(pinOf(archive, lib), "any"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Source != "pip" {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(progress.String(), "getaddrinfo") {
		t.Errorf("the progress does not say why npm failed:\n%s", &progress)
	}
}

func TestObtainFromRelease(t *testing.T) {
	lib := ours(t, "released")
	archive := tgz(t, file{"./" + member, lib, tar.TypeReg}) // some archivers write it so
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/lib.tgz" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(archive)
	}))
	defer server.Close()
	from := func(p pin, path string) source { return release(p, server.URL+path, server.Client()) }
	// One source pins the library as well, one its archive alone.
	for _, p := range []pin{pinOf(archive, lib), {sum(archive), member, ""}} {
		opts := options(t)
		got, err := obtainFrom(context.Background(), opts, nil, from(p, "/lib.tgz"))
		if err != nil || got.Source != "release" {
			t.Fatalf("got %+v, %v", got, err)
		}
		opts.sources = []source{from(p, "/lib.tgz")}
		if found, err := Find(opts); err != nil || found != got {
			t.Errorf("found %+v, %v; want %+v", found, err, got)
		}
		// What was taken from an archive that is not, or no longer, the
		// pinned one is not used, whatever the record says.
		opts.sources = []source{from(pin{sum(nil), member, ""}, "/lib.tgz")}
		if found, err := Find(opts); err == nil {
			t.Errorf("found %+v from an unknown archive", found)
		}
	}
	opts := options(t)
	_, err := obtainFrom(context.Background(), opts, nil, from(pin{"", member, ""}, "/lib.tgz"))
	if galley.CodeOf(err) != galley.Unavailable || !strings.Contains(err.Error(), "digest") {
		t.Errorf("an archive whose digest is not known: %v", err)
	}
	_, err = obtainFrom(context.Background(), options(t), nil, from(pin{sum(archive), member, ""}, "/other.tgz"))
	if galley.CodeOf(err) != galley.Unavailable || !strings.Contains(err.Error(), "404") {
		t.Errorf("a missing archive: %v", err)
	}
}

// Each broken delivery is refused with its reason and leaves no library.
func TestObtainRefuses(t *testing.T) {
	lib := ours(t, "real")
	good := tgz(t, file{member, lib, tar.TypeReg})
	other := fakeELF(elf.EM_RISCV, "")
	bin := emptyPath(t)
	npmWith := func(archive []byte, p pin) source {
		s := npm(p)
		s.fetch = func(_ context.Context, dir string) (string, error) {
			path := filepath.Join(dir, "a.tgz")
			return path, os.WriteFile(path, archive, 0o644)
		}
		return s
	}
	withArchive := func(archive []byte, library []byte) source { return npmWith(archive, pinOf(archive, library)) }
	for _, c := range []struct {
		name, want string
		source     source
	}{
		{"archive's digest", "archive's digest", npmWith(good, pin{sum(lib), member, sum(lib)})},
		{"library's digest", "library's digest", withArchive(good, []byte("other"))},
		{"truncated", "damaged", withArchive(good[:len(good)/2], lib)},
		{"not an archive", "damaged", withArchive([]byte("<html>"), lib)},
		{"empty", "damaged", withArchive(nil, lib)},
		{"without the library", "has no " + member, withArchive(tgz(t, file{"x", nil, tar.TypeReg}), nil)},
		{"a link", "not a regular file", withArchive(tgz(t, file{member, []byte("/etc/passwd"), tar.TypeSymlink}), nil)},
		{"a folder", "not a regular file", withArchive(tgz(t, file{member, nil, tar.TypeDir}), nil)},
		{"another machine", "not for " + here.String(), withArchive(tgz(t, file{member, other, tar.TypeReg}), other)},
		{"no library", "no shared library", withArchive(tgz(t, file{member, []byte("text"), tar.TypeReg}), []byte("text"))},
		{"npm missing", "not installed", npm(pin{})},
		{"pip missing", "not installed", pip(pin{}, "any")},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := options(t)
			_, err := obtainFrom(context.Background(), opts, nil, c.source)
			if galley.CodeOf(err) != galley.Unavailable || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if entries, _ := os.ReadDir(filepath.Join(opts.Cache, Version)); len(entries) != 0 {
				t.Errorf("%v is left behind", entries)
			}
		})
	}
	program(t, bin, "npm", "exit 0")
	if _, err := obtainFrom(context.Background(), options(t), nil, npm(pin{})); err == nil || !strings.Contains(err.Error(), "0 files") {
		t.Errorf("an npm that delivers nothing: %v", err)
	}
}

func TestObtainListsEveryReason(t *testing.T) {
	bin := emptyPath(t)
	program(t, bin, "npm", "echo offline-one >&2; exit 1")
	program(t, bin, "python3", "echo offline-two >&2; exit 1")
	_, err := obtainFrom(context.Background(), options(t), nil, npm(pin{}), pip(pin{}, "any"),
		release(pin{}, "https://127.0.0.1:1/x.tgz", http.DefaultClient))
	for _, want := range []string{"offline-one", "offline-two", "127.0.0.1:1", "GALLEY_ORT_LIB"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	_, err = obtainFrom(context.Background(), options(t), nil, sources(platform{"plan9", "mips"})...)
	if galley.CodeOf(err) != galley.Unimplemented {
		t.Errorf("an unknown platform: %v", err)
	}
}

func TestObtainStopsWithItsContext(t *testing.T) {
	bin := emptyPath(t)
	program(t, bin, "npm", "exec /bin/sleep 60")
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	opts := options(t)
	begin := time.Now()
	_, err := obtainFrom(ctx, opts, nil, npm(pin{}), pip(pin{}, "any"))
	if galley.CodeOf(err) != galley.DeadlineExceeded || time.Since(begin) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
	// And while it waits for another process.
	unlock, err := lock(context.Background(), filepath.Join(opts.Cache, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := obtainFrom(ctx, opts, nil); galley.CodeOf(err) != galley.DeadlineExceeded {
		t.Errorf("waiting: %v", err)
	}
}

func TestObtainAtOnce(t *testing.T) {
	lib := ours(t, "shared")
	archive := tgz(t, file{member, lib, tar.TypeReg})
	var mu sync.Mutex
	fetched := 0
	s := npm(pinOf(archive, lib))
	s.fetch = func(_ context.Context, dir string) (string, error) {
		mu.Lock()
		fetched++
		mu.Unlock()
		path := filepath.Join(dir, "a.tgz")
		return path, os.WriteFile(path, archive, 0o644)
	}
	opts := options(t)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := obtainFrom(context.Background(), opts, nil, s); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if fetched != 1 {
		t.Errorf("fetched %d times", fetched)
	}
}

func TestFindNamed(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good/libonnxruntime.so.1.28.0", ours(t, ""))
	write("good/libonnxruntime.so.1.25.1", ours(t, ""))
	for _, path := range []string{good, filepath.Dir(good)} {
		got, err := Find(Options{Path: path, Cache: dir})
		want := Library{Path: good, Version: "1.28.0", Source: "GALLEY_ORT_LIB"}
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v", path, got, err)
		}
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "absent"):                               "no such file",
		write("old/libonnxruntime.so.1.16.3", ours(t, "")):         "version 1.16.3",
		write("text/libonnxruntime.so", []byte("hello")):           "no shared library",
		write("risc/libonnxruntime.so", fakeELF(elf.EM_RISCV, "")): "not for",
		filepath.Join(dir, "old"):                                  "version 1.16.3",
		t.TempDir():                                                "holds no libonnxruntime",
	} {
		_, err := Find(Options{Path: path, Cache: dir})
		if galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
		if _, err := Obtain(context.Background(), Options{Path: path, Cache: dir}, nil); err == nil {
			t.Errorf("%s: a named library that is of no use is replaced", path)
		}
	}
}

func TestFindInSystem(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	for path, data := range map[string][]byte{
		filepath.Join(one, "libonnxruntime.so.1.20.0"): ours(t, ""),
		filepath.Join(one, "libonnxruntime.so.1.26.0"): ours(t, ""),
		filepath.Join(two, "libonnxruntime.so.1.25.0"): ours(t, ""),
	} {
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("libonnxruntime.so.1.26.0", filepath.Join(one, "libonnxruntime.so")); err != nil {
		t.Fatal(err)
	}
	got, err := Find(Options{Cache: t.TempDir(), System: []string{two, one}})
	if err != nil || got.Version != "1.26.0" || got.Source != "system" {
		t.Errorf("got %+v, %v", got, err)
	}
	_, err = Find(Options{Cache: t.TempDir(), System: []string{}})
	if galley.CodeOf(err) != galley.NotFound || !strings.Contains(err.Error(), "doctor --fix") {
		t.Errorf("nothing there: %v", err)
	}
}

func TestDefaultCache(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/c")
	if got, err := DefaultCache(); err != nil || got != "/c/galley/onnxruntime" {
		t.Errorf("got %q, %v", got, err)
	}
	t.Setenv("XDG_CACHE_HOME", "relative")
	t.Setenv("HOME", "/h")
	if got, err := DefaultCache(); err != nil || got != "/h/.cache/galley/onnxruntime" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestPinsAreWhole(t *testing.T) {
	for _, pins := range []map[platform]pin{npmPins, pipPins, releasePins} {
		for p, pin := range pins {
			if len(pin.archive) != 64 || len(pin.library) != 64 && pin.library != "" || pin.member == "" {
				t.Errorf("%s: %+v", p, pin)
			}
			if len(sources(p)) != 3 {
				t.Errorf("%s has %d sources", p, len(sources(p)))
			}
		}
	}
}

func TestOlder(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"1.9.0", "1.24.0", true}, {"1.24.0", "1.24.0", false}, {"1.30.0", "1.24.0", false}, {"2.0.0", "1.24.0", false},
		{"1.24", "1.24.1", true}, {unknown, "1.24.0", false}, {"1.24.0", unknown, false},
	} {
		if got := older(c.a, c.b); got != c.want {
			t.Errorf("older(%s, %s) = %v", c.a, c.b, got)
		}
	}
}

func FuzzInspect(f *testing.F) {
	f.Add(fakeELF(elf.EM_X86_64, "x"))
	f.Add([]byte("\xcf\xfa\xed\xfe\x0c\x00\x00\x01\x00\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "lib")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		_, version, err := inspect(path)
		if err == nil && version == "" {
			t.Error("neither a version nor an error")
		}
	})
}

func FuzzUnpack(f *testing.F) {
	f.Add(tgz(f, file{member, []byte("x"), tar.TypeReg}), false)
	f.Add(wheel(f, file{name: member, data: []byte("x")}), true)
	f.Fuzz(func(t *testing.T, data []byte, zip bool) {
		dir := t.TempDir()
		archive := filepath.Join(dir, "a.tgz")
		if zip {
			archive = filepath.Join(dir, "a.whl")
		}
		if err := os.WriteFile(archive, data, 0o644); err != nil {
			t.Fatal(err)
		}
		_ = unpack(archive, member, filepath.Join(dir, "out"))
	})
}

package library

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"galley"
)

// Limits on what a source may send.
const (
	maxArchive = 512 << 20
	maxLibrary = 256 << 20
)

// A source downloads one archive that holds the library.
type source struct {
	name string
	pin  pin
	// what says in one line what fetch does.
	what string
	// fetch puts the archive into the empty folder dir and returns its path.
	fetch func(ctx context.Context, dir string) (string, error)
}

// Obtain returns the library that Find finds, and otherwise downloads the
// pinned version into the cache from the first source that has it: npm, pip,
// the project's release archive. A download with another digest than the
// pinned one is refused, and the file appears in the cache whole or not at all; several processes
// may call Obtain at once. Each line that it writes to progress says one thing
// it did. If all sources fail the error gives every reason.
func Obtain(ctx context.Context, opts Options, progress io.Writer) (Library, error) {
	if lib, err := Find(opts); err == nil || opts.Path != "" {
		return lib, err
	}
	here := platform{runtime.GOOS, runtime.GOARCH}
	opts, err := opts.resolved()
	if err != nil {
		return Library{}, galley.Errorf(galley.FailedPrecondition, "ONNX Runtime", "no cache folder: %w", err)
	}
	if err := os.MkdirAll(opts.Cache, 0o755); err != nil {
		return Library{}, galley.Errorf(galley.FailedPrecondition, "ONNX Runtime", "cache folder: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(opts.Cache, "lock"))
	if err != nil {
		return Library{}, galley.Errorf(galley.CodeOf(err), "ONNX Runtime", "waiting for another process that obtains it: %w", err)
	}
	defer unlock()
	if lib, err := Find(opts); err == nil { // another process was faster
		return lib, nil
	}
	if len(opts.sources) == 0 {
		return Library{}, galley.Errorf(galley.Unimplemented, "ONNX Runtime", "no source is known for %s", here).
			WithRemedy("build version %s or later and name it in GALLEY_ORT_LIB", MinVersion)
	}
	var reasons []string
	for _, s := range opts.sources {
		say(progress, "ONNX Runtime %s for %s: %s", Version, here, s.what)
		lib, err := install(ctx, s, opts.cached(), here, progress)
		if err == nil {
			return lib, nil
		}
		if ctx.Err() != nil {
			return Library{}, galley.Errorf(galley.CodeOf(ctx.Err()), "ONNX Runtime", "%s: %w", s.name, ctx.Err())
		}
		say(progress, "%s: %v", s.name, err)
		reasons = append(reasons, s.name+": "+err.Error())
	}
	return Library{}, galley.Errorf(galley.Unavailable, "ONNX Runtime", "cannot be obtained: %s", strings.Join(reasons, "; ")).
		WithRemedy("install npm or pip, or open a way to the internet, and run galley doctor --fix; or name a library in GALLEY_ORT_LIB")
}

// install takes the library from one source to path.
func install(ctx context.Context, s source, path string, here platform, progress io.Writer) (Library, error) {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return Library{}, err
	}
	// Beside its destination, so that the last step is a rename.
	work, err := os.MkdirTemp(folder, ".obtain-")
	if err != nil {
		return Library{}, err
	}
	defer os.RemoveAll(work)
	download := filepath.Join(work, "download")
	if err := os.Mkdir(download, 0o755); err != nil {
		return Library{}, err
	}
	archive, err := s.fetch(ctx, download)
	if err != nil {
		return Library{}, err
	}
	r := record{Version: Version, Source: s.name}
	if r.ArchiveSHA256, err = digestOf(archive); err != nil {
		return Library{}, err
	}
	if r.ArchiveSHA256 != s.pin.archive {
		return Library{}, fmt.Errorf("the archive's digest is %s, want %s", r.ArchiveSHA256, s.pin.archive)
	}
	unpacked := filepath.Join(work, "library")
	if err := unpack(archive, s.pin.member, unpacked); err != nil {
		return Library{}, err
	}
	if r.SHA256, err = digestOf(unpacked); err != nil {
		return Library{}, err
	}
	if s.pin.library != "" && r.SHA256 != s.pin.library {
		return Library{}, fmt.Errorf("the library's digest is %s, want %s", r.SHA256, s.pin.library)
	}
	p, version, err := inspect(unpacked)
	switch {
	case err != nil:
		return Library{}, errors.New("the archive holds no shared library, or a damaged one")
	case p != here:
		return Library{}, fmt.Errorf("the library is for %s, not for %s", p, here)
	case version != Version && version != unknown:
		return Library{}, fmt.Errorf("the library is version %s, want %s", version, Version)
	}
	if err := publish(unpacked, path, r); err != nil {
		return Library{}, err
	}
	say(progress, "%s: put %s there; it has the pinned digest (archive sha256 %s, library sha256 %s)",
		s.name, path, r.ArchiveSHA256, r.SHA256)
	return Library{Path: path, Version: Version, Source: s.name}, nil
}

// publish writes the record and moves the library to its place.
func publish(unpacked, path string, r record) error {
	if err := os.Chmod(unpacked, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	note := unpacked + ".json"
	if err := os.WriteFile(note, append(data, '\n'), 0o644); err != nil {
		return err
	}
	if err := os.Rename(note, recordPath(path)); err != nil {
		return err
	}
	return os.Rename(unpacked, path)
}

func say(w io.Writer, format string, args ...any) {
	if w != nil {
		fmt.Fprintf(w, format+"\n", args...)
	}
}

package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"galley"
	"galley/dataset"
	"galley/internal/blob"
	"galley/internal/store"
	"galley/internal/store/sqlite"
	"galley/onnx/session"
	"galley/task"
	"galley/trainer"
	"galley/trainer/launch/process"
)

// noOpener stands for a machine without a runtime.
type noOpener struct{}

func (noOpener) Open(context.Context, []byte, session.Options) (session.Session, error) {
	return nil, galley.Errorf(galley.FailedPrecondition, "runtime", "is missing")
}

func (o noOpener) OpenFile(ctx context.Context, _ string, _ session.Options) (session.Session, error) {
	return o.Open(ctx, nil, session.Options{})
}

func (noOpener) Runtime() string { return "none" }

// A world is an open home with its control, which runs.
type world struct {
	*Control
	stop func()
}

func open(home string, opener session.Opener, cpus int) (*world, error) {
	return openWith(home, opener, cpus, blob.Options{})
}

func openWith(home string, opener session.Opener, cpus int, o blob.Options, more ...func(*Options)) (*world, error) {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, home)
	if err != nil {
		return nil, err
	}
	blobs, err := blob.Open(filepath.Join(home, "blobs"), o)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	options := Options{
		Home: home, Store: s, Blobs: blobs, Opener: opener, Drivers: drivers, CPUs: cpus,
		Launcher: process.Launcher{Args: []string{"attempt"}},
		Logger:   slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, set := range more {
		set(&options)
	}
	c, err := Open(ctx, options)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	run, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(run)
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		<-done
		limit, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		_ = c.Close(limit)
		_ = s.Close()
	})
	return &world{Control: c, stop: stop}, nil
}

func newWorld(t *testing.T, opener session.Opener, cpus int) *world {
	t.Helper()
	w, err := open(t.TempDir(), opener, cpus)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	return w
}

const rows = "text,label\n" +
	"sport goal one,sport\nsport goal two,sport\nsport goal three,sport\n" +
	"money bank one,money\nmoney bank two,money\nmoney bank three,money\n"

func (w *world) add(t *testing.T, name string, files map[string]string) *dataset.Rejections {
	t.Helper()
	s, err := w.NewSpool()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for split, data := range files {
		// In pieces, as they come over the wire.
		for len(data) > 0 {
			n := min(7, len(data))
			if err := s.Write(split, split+".csv", []byte(data[:n])); err != nil {
				t.Fatal(err)
			}
			data = data[n:]
		}
	}
	d, rejected, err := w.AddData(t.Context(), "ann", dataset.FreezeOptions{Name: name, Format: dataset.CSV, Seed: 1}, s)
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != name || d.Version < 1 {
		t.Errorf("%+v", d)
	}
	return rejected
}

func jobFile(name, kind, more string) []byte {
	return fmt.Appendf(nil, "apiVersion: galley/v1\nkind: Train\nname: %s\ntask: %s\ndata: {dataset: news}\nresources: {cpus: 1}\n%s", name, kind, more)
}

func (w *world) submit(t *testing.T, file []byte) trainer.Job {
	t.Helper()
	j, err := w.Submit(t.Context(), "ann", file, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// wait follows a job until it is final.
func (w *world) wait(t *testing.T, id string) trainer.Job {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var last trainer.Job
	if err := w.Watch(ctx, id, func(j trainer.Job) error { last = j; return nil }); err != nil {
		t.Fatalf("%v; job %+v", err, last)
	}
	return last
}

func (w *world) log(t *testing.T, id string) string {
	t.Helper()
	var b strings.Builder
	if err := w.Logs(t.Context(), id, 0, true, func(_ trainer.Job, l store.Line) error {
		fmt.Fprintln(&b, l.Text)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for begun := time.Now(); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > 30*time.Second {
			t.Fatal("it did not happen")
		}
	}
}

func (w *world) modelDigest(t *testing.T, ref string) galley.Digest {
	t.Helper()
	r, err := galley.ParseRef(ref)
	if err != nil {
		t.Fatal(err)
	}
	v, _, err := w.Version(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	a, ok := v.Artifact(task.ModelFile)
	if !ok {
		t.Fatal("no model")
	}
	return a.Digest
}

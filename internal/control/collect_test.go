package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"galley"
	"galley/registry"
	"galley/task"
	"galley/trainer"
)

// blobs are the digests that the home has.
func (w *world) blobsNow(t *testing.T) map[galley.Digest]bool {
	t.Helper()
	all := map[galley.Digest]bool{}
	for b, err := range w.blobs.List() {
		if err != nil {
			t.Fatal(err)
		}
		all[b.Digest] = true
	}
	return all
}

// checkNamed holds that each version, dataset and pending effect has its blobs.
func (w *world) checkNamed(t *testing.T) {
	t.Helper()
	there := w.blobsNow(t)
	models, err := w.Models(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range models {
		for _, summary := range m.Versions {
			v, _, err := w.Version(t.Context(), galley.Ref{Name: m.Name, Version: summary.Number})
			if galley.CodeOf(err) == galley.NotFound {
				continue // deleted meanwhile
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range v.Artifacts {
				if !there[a.Digest] {
					t.Errorf("%s lacks %s", v.Ref(), a.Path)
				}
			}
		}
	}
	sets, err := w.Datasets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range sets {
		for split, info := range d.Manifest.Splits {
			if !there[info.Digest] {
				t.Errorf("%s lacks %s", d.Ref(), split)
			}
		}
	}
}

// uploadBundle uploads a model that differs from others by its name.
func (w *world) uploadBundle(t *testing.T, name string) (galley.Digest, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bundle")
	if err := writeBundle(dir, "text-mlm", nil, []byte(name)); err != nil {
		return "", err
	}
	s, err := w.NewSpool()
	if err != nil {
		return "", err
	}
	defer s.Close()
	for _, file := range []string{task.ModelFile, task.TokenizerFile} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err == nil {
			err = s.Write(file, file, data)
		}
		if err != nil {
			return "", err
		}
	}
	return w.Upload(context.Background(), s)
}

func TestDeletionGivesTheDiskBack(t *testing.T) {
	home := t.TempDir()
	w, err := open(home, noOpener{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	w.add(t, "news", map[string]string{"train": rows})
	for seed := range 2 {
		w.wait(t, w.submit(t, jobFile("base", "text-mlm", fmt.Sprintf("recipe: {epochs: 1, seed: %d}\n", seed))).ID)
	}
	one, _, err := w.Version(t.Context(), galley.Ref{Name: "base", Version: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Delete(t.Context(), "ann", galley.Ref{Name: "base", Version: 1}); err != nil {
		t.Fatal(err)
	}
	w.stop() // as a command with --local does
	if w, err = open(home, noOpener{}, 2); err != nil {
		t.Fatal(err)
	}
	defer w.stop()
	there := w.blobsNow(t)
	for _, a := range one.Artifacts {
		if shared := a.Path != task.ModelFile; there[a.Digest] != shared {
			t.Errorf("%s is there: %v", a.Path, there[a.Digest])
		}
	}
	w.checkNamed(t)
}

// What a crash left behind is found; what a client sent and nobody used is
// kept for a day; what a job came from stays.
func TestSweep(t *testing.T) {
	home := t.TempDir()
	w, err := open(home, noOpener{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	w.add(t, "news", map[string]string{"train": rows})
	used, err := w.uploadBundle(t, "used")
	if err != nil {
		t.Fatal(err)
	}
	unused, err := w.uploadBundle(t, "unused")
	if err != nil {
		t.Fatal(err)
	}
	w.wait(t, w.submit(t, jobFile("onward", "text-mlm", "recipe: {epochs: 1}\nfrom: "+string(used)+"\n")).ID)
	w.sweep(t.Context())
	for _, d := range []galley.Digest{used, unused} {
		if files, err := w.upload(d); err != nil || len(files) != 2 {
			t.Errorf("%v, %v", files, err)
		}
	}
	filesOf := func(d galley.Digest) []registry.Artifact {
		files, err := w.upload(d)
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	usedFiles, unusedFiles := filesOf(used), filesOf(unused)
	orphan, _, err := w.blobs.PutFile(t.Context(), filepath.Join(home, "galley.lock"))
	if err != nil {
		t.Fatal(err)
	}
	w.stop() // what was put without being named is garbage for the next process
	if w, err = open(home, noOpener{}, 2); err != nil {
		t.Fatal(err)
	}
	defer w.stop()
	if err := w.store.ForgetUploads(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	w.sweep(t.Context())
	there := w.blobsNow(t)
	if there[orphan] || there[unused] || there[unusedFiles[0].Digest] {
		t.Errorf("orphan %v, unused upload %v with its files %v", there[orphan], there[unused], there[unusedFiles[0].Digest])
	}
	if !there[used] || !there[usedFiles[0].Digest] || !there[usedFiles[1].Digest] {
		t.Error("the version's parent is gone")
	}
	w.checkNamed(t)
}

// Datasets, uploads, imports, jobs and deletions go on beside sweeps that
// never end, and all that was acknowledged is whole.
func TestSweepBesideEverything(t *testing.T) {
	w := newWorld(t, noOpener{}, 2)
	w.add(t, "news", map[string]string{"train": rows})
	ctx, stop := context.WithCancel(t.Context())
	var sweeping, working sync.WaitGroup
	sweeping.Go(func() {
		for ctx.Err() == nil {
			if _, err := w.collectBlobs(ctx); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			time.Sleep(time.Millisecond)
		}
	})
	working.Go(func() { // datasets
		for i := range 10 {
			w.add(t, "more", map[string]string{"train": rows + fmt.Sprintf("sport number %d,sport\n", i%3)})
		}
	})
	for worker := range 2 {
		working.Go(func() { // uploads that become versions that are deleted, of the same few models
			for i := range 8 {
				d, err := w.uploadBundle(t, fmt.Sprint("model ", i%3))
				if err != nil {
					t.Error(err)
					return
				}
				name := fmt.Sprint("in", worker)
				got, err := w.Import(ctx, "ann", name, d, "")
				if err != nil {
					t.Error(err)
					return
				}
				if i%2 == 0 {
					if _, err := w.Delete(ctx, "ann", galley.Ref{Name: name, Version: got.Version.Number}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	working.Go(func() { // jobs
		for i := range 3 {
			j, err := w.Submit(ctx, "ann", jobFile("base", "text-mlm", fmt.Sprintf("recipe: {epochs: 1, seed: %d}\n", i)), nil, "")
			if err != nil {
				t.Error(err)
				return
			}
			if err := w.Watch(ctx, j.ID, func(now trainer.Job) error { j = now; return nil }); err != nil || j.Phase != trainer.Succeeded {
				t.Errorf("%+v, %v", j, err)
			}
		}
	})
	working.Wait()
	stop()
	sweeping.Wait()
	w.checkNamed(t)
}

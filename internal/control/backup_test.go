package control

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
	"testing"
	"time"

	"galley"
	"galley/internal/audit"
	"galley/internal/backup"
	"galley/internal/blob"
	"galley/internal/store"
	"galley/registry"
	"galley/task"
)

func restore(t *testing.T, home string, archive []byte, replace bool) (Restored, error) {
	t.Helper()
	r := Restore{Home: home, Replace: replace, By: "ann", Clock: time.Now}
	return r.Run(t.Context(), bytes.NewReader(archive), int64(len(archive)))
}

// verifyHead checks the log of an open home, which must go through a head.
func (w *world) verifyHead(t *testing.T, kept audit.Head) {
	t.Helper()
	if err := verifyLog(t.Context(), w.store, kept); err != nil {
		t.Error(err)
	}
}

// A backup that is taken while everything goes on is one state: restored, it
// has all that it names, and its log is the one of then.
func TestBackupWhileServing(t *testing.T) {
	home := t.TempDir()
	w, err := open(home, noOpener{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer w.stop()
	w.add(t, "news", map[string]string{"train": rows})
	w.wait(t, w.submit(t, jobFile("base", "text-mlm", "recipe: {epochs: 1}\n")).ID)
	kept, err := w.AuditHead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	working.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			d, err := w.uploadBundle(t, fmt.Sprint("model ", i%5))
			var got Imported
			if err == nil {
				got, err = w.Import(context.Background(), "ann", "in", d, "")
			}
			if err == nil && i%2 == 0 {
				_, err = w.Delete(context.Background(), "ann", galley.Ref{Name: "in", Version: got.Version.Number})
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i := range 4 {
		var archive bytes.Buffer
		s, err := w.Backup(t.Context(), "ann", &archive)
		if err != nil || s.Files < 5 || len(s.Damaged) != 0 || s.Bytes < 1000 {
			t.Fatalf("%+v, %v", s, err)
		}
		later, err := w.AuditHead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		other := filepath.Join(t.TempDir(), "home")
		done, err := restore(t, other, archive.Bytes(), false)
		if err != nil || done.Audit != s.Audit || done.Files != s.Files || done.Bytes != s.Bytes || len(done.Missing) != 0 || done.Replaced != "" {
			t.Fatalf("%+v of %+v, %v", done, s, err)
		}
		r, err := open(other, noOpener{}, 2)
		if err != nil {
			t.Fatal(err)
		}
		r.checkNamed(t)
		r.verifyHead(t, kept.Head())
		r.verifyHead(t, s.Audit)
		if v, _, err := r.Version(t.Context(), galley.Ref{Name: "base"}); err != nil || v.Number != 1 {
			t.Errorf("%+v, %v", v, err)
		}
		head, err := r.AuditHead(t.Context())
		if err != nil || !head.Key.Equal(kept.Key) {
			t.Errorf("the restored home signs with another key: %v", err)
		}
		log, err := r.store.Audit(t.Context(), store.AuditQuery{Subject: "home"})
		if err != nil || len(log) != i+2 || log[i].Action != "home.backup" || log[i+1].Action != "home.restore" || log[i+1].Actor != "ann" {
			t.Errorf("%+v, %v", log, err)
		}
		r.stop()
		if later.Entries < s.Audit.Entries {
			t.Errorf("the log went back")
		}
	}
	stop()
	working.Wait()
	if entries, err := os.ReadDir(w.temp()); err != nil || len(entries) > 0 {
		t.Errorf("%v stays behind, %v", entries, err)
	}
}

// backedUp is a home with one version, stopped, and its backup.
func backedUp(t *testing.T) (home string, archive []byte, v registry.Version) {
	t.Helper()
	home = t.TempDir()
	w, err := open(home, noOpener{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer w.stop()
	d, err := w.uploadBundle(t, "model")
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.Import(t.Context(), "ann", "in", d, "")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := w.Backup(t.Context(), "ann", &out); err != nil {
		t.Fatal(err)
	}
	return home, out.Bytes(), got.Version
}

// listing is each path below a folder with its size.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			fmt.Fprintln(&out, path, info.Size(), info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestRestoreReplaces(t *testing.T) {
	home, archive, _ := backedUp(t)
	before := listing(t, home)
	_, err := restore(t, home, archive, false)
	if galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), "--replace") {
		t.Errorf("a home with something in it: %v", err)
	}
	if after := listing(t, home); after != before {
		t.Errorf("the home is\n%s\nwas\n%s", after, before)
	}
	w, err := open(home, noOpener{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	_, err = restore(t, home, archive, true)
	if galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), fmt.Sprint("pid ", os.Getpid())) {
		t.Errorf("a home that is in use: %v", err)
	}
	w.add(t, "later", map[string]string{"train": rows})
	w.stop()
	done, err := restore(t, home, archive, true)
	if err != nil || filepath.Dir(done.Replaced) != home {
		t.Fatalf("%+v, %v", done, err)
	}
	if w, err = open(home, noOpener{}, 2); err != nil {
		t.Fatal(err)
	}
	defer w.stop()
	if sets, err := w.Datasets(t.Context()); err != nil || len(sets) != 0 {
		t.Errorf("%+v, %v", sets, err)
	}
	w.checkNamed(t)
	old, err := open(done.Replaced, noOpener{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer old.stop()
	if sets, err := old.Datasets(t.Context()); err != nil || len(sets) != 1 {
		t.Errorf("what was there before: %+v, %v", sets, err)
	}
}

// What partners know the server by goes with the home: each has pinned it.
func TestBackupHasServerIdentity(t *testing.T) {
	home, without, _ := backedUp(t)
	if err := os.Mkdir(filepath.Join(home, PartnersFolder), 0o700); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, name := range []string{backup.ServerCertificate, backup.ServerKey} {
		path := filepath.Join(home, filepath.FromSlash(name))
		files[name] = "of " + name
		if err := os.WriteFile(path, []byte(files[name]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w, err := open(home, noOpener{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	_, err = w.Backup(t.Context(), "ann", &archive)
	w.stop()
	if err != nil {
		t.Fatal(err)
	}
	holds := func(home string) {
		t.Helper()
		for name, want := range files {
			path := filepath.Join(home, filepath.FromSlash(name))
			got, err := os.ReadFile(path)
			if err != nil || string(got) != want {
				t.Errorf("%s: %q, %v", path, got, err)
			}
			if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: others may read it: %v", path, info.Mode())
			}
		}
	}
	other := t.TempDir()
	if _, err := restore(t, other, archive.Bytes(), false); err != nil {
		t.Fatal(err)
	}
	holds(other)
	if _, err := restore(t, home, without, true); err != nil { // it has none: that of now stays
		t.Fatal(err)
	}
	holds(home)
}

// Tenants go with the home, and those of now are moved aside; a backup without
// any leaves them.
func TestBackupHasTenants(t *testing.T) {
	home, without, _ := backedUp(t)
	path := filepath.Join(home, tenantsFile)
	write := func(weight int) string {
		t.Helper()
		text := fmt.Sprintf("apiVersion: galley/v1\nkind: Tenants\ntenants:\n  - {name: sport, weight: %d}\n", weight)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return text
	}
	holds := func(path, want string) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	then := write(2)
	w, err := open(home, noOpener{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	_, err = w.Backup(t.Context(), "ann", &archive)
	w.stop()
	if err != nil {
		t.Fatal(err)
	}
	now := write(3)
	done, err := restore(t, home, archive.Bytes(), true)
	if err != nil {
		t.Fatal(err)
	}
	holds(path, then)
	holds(filepath.Join(done.Replaced, tenantsFile), now)
	if _, err := restore(t, home, without, true); err != nil {
		t.Fatal(err)
	}
	holds(path, then)
	other := filepath.Join(t.TempDir(), "home")
	if _, err := restore(t, other, archive.Bytes(), false); err != nil {
		t.Fatal(err)
	}
	holds(filepath.Join(other, tenantsFile), then)
}

// An archive that is cut off, changed, or none leaves the home as it was.
func TestRestoreRefuses(t *testing.T) {
	home, archive, _ := backedUp(t)
	before := listing(t, home)
	for name, bad := range map[string][]byte{
		"none":           []byte("hello"),
		"cut off":        archive[:len(archive)/2],
		"another row":    bytes.Replace(archive, []byte("home.backup"), []byte("home.bakcup"), 1),
		"another number": bytes.Replace(archive, []byte(`"audit_entries":`), []byte(`"audit_entries":1`), 1),
	} {
		if bytes.Equal(bad, archive) {
			t.Fatalf("%s: nothing was changed", name)
		}
		_, err := restore(t, home, bad, true)
		if code := galley.CodeOf(err); code != galley.InvalidArgument && code != galley.DataLoss {
			t.Errorf("%s: %v", name, err)
		}
		if after := listing(t, home); after != before {
			t.Errorf("%s: the home is\n%s\nwas\n%s", name, after, before)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := Restore{Home: home, Replace: true, By: "ann", Clock: time.Now}
	if _, err := r.Run(ctx, bytes.NewReader(archive), int64(len(archive))); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if after := listing(t, home); after != before {
		t.Errorf("cancelled: the home is\n%s\nwas\n%s", after, before)
	}
}

// An archive whose database was changed, digests and all, is found by its log.
func TestRestoreVerifiesTheLog(t *testing.T) {
	_, archive, _ := backedUp(t)
	var forged bytes.Buffer
	w := backup.NewWriter(&forged)
	m, err := backup.Read(t.Context(), bytes.NewReader(archive), int64(len(archive)), func(f backup.File, r io.Reader) error {
		var content bytes.Buffer
		if _, err := content.ReadFrom(r); err != nil {
			return err
		}
		data := content.Bytes()
		if f.Path == backup.Database {
			data = bytes.ReplaceAll(data, []byte("home.backup"), []byte("home.bakcup"))
		}
		return w.Add(f.Path, f.Size, bytes.NewReader(data))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(m); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	_, err = restore(t, home, forged.Bytes(), false)
	if galley.CodeOf(err) != galley.DataLoss || !strings.Contains(err.Error(), "audit entry") {
		t.Error(err)
	}
	if left := strings.TrimSpace(listing(t, home)); strings.Count(left, "\n") > 0 || !strings.Contains(left, "galley.lock") {
		t.Errorf("left behind:\n%s", left)
	}
}

// A blob that is damaged is left out and named; all others are restored.
func TestBackupOfDamage(t *testing.T) {
	home, _, v := backedUp(t)
	graph, _ := v.Artifact(task.ModelFile)
	blobs, err := blob.Open(filepath.Join(home, blobFolder), blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(blobs.Path(graph.Digest), 0o600), os.WriteFile(blobs.Path(graph.Digest), []byte("damage"), 0o600)); err != nil {
		t.Fatal(err)
	}
	w, err := open(home, noOpener{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer w.stop()
	var archive bytes.Buffer
	s, err := w.Backup(t.Context(), "ann", &archive)
	if err != nil || len(s.Damaged) != 1 || s.Damaged[0] != graph.Digest {
		t.Fatalf("%+v, %v", s, err)
	}
	done, err := restore(t, t.TempDir(), archive.Bytes(), false)
	if err != nil || len(done.Missing) != 1 || done.Missing[0] != v.Ref() {
		t.Errorf("%+v, %v", done, err)
	}
}

// A restore that was cut off between two steps is not taken for an empty
// home, and can be done again.
func TestRestoreCutOff(t *testing.T) {
	home, archive, _ := backedUp(t)
	if err := os.Mkdir(filepath.Join(home, "restoring"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(home, "galley.db"), filepath.Join(home, "restoring", "galley.db")); err != nil {
		t.Fatal(err)
	}
	_, err := open(home, noOpener{}, 1)
	if galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), "cut off") {
		t.Error(err)
	}
	if _, err := restore(t, home, archive, true); err != nil {
		t.Fatal(err)
	}
	w, err := open(home, noOpener{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.stop()
	w.checkNamed(t)
}

func TestAuditKey(t *testing.T) {
	w := newWorld(t, noOpener{}, 1)
	path := filepath.Join(w.home, auditKeyFile)
	first, err := w.AuditHead(t.Context())
	if err != nil || first.Check() != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if key, err := loadAuditKey(path); err != nil || !first.Key.Equal(key.Public()) {
		t.Error(err)
	}
	for name, spoil := range map[string]func() error{
		"may read": func() error { return os.Chmod(path, 0o640) },
		"bytes":    func() error { return os.WriteFile(path, bytes.Repeat([]byte("x"), maxKeyFile+1), 0o600) },
		"PEM":      func() error { return os.WriteFile(path, []byte("x"), 0o600) },
	} {
		if err := errors.Join(os.Chmod(path, 0o600), spoil()); err != nil {
			t.Fatal(err)
		}
		if _, err := loadAuditKey(path); err == nil || !strings.Contains(err.Error(), name) || galley.AsError(err).Remedy == "" {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

package control

import (
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"galley/internal/blob"
	"galley/trainer"
)

// refuse makes the database take no change of a job, with an error that says
// nothing of going away, until the function that it returns is called.
func (w *world) refuse(t *testing.T) (accept func()) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(w.home, "galley.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	exec := func(statement string) {
		t.Helper()
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE TRIGGER refuse BEFORE UPDATE ON jobs BEGIN SELECT RAISE(ABORT, 'nothing is taken'); END`)
	return func() {
		t.Helper()
		exec(`DROP TRIGGER refuse`)
	}
}

// said passes on what a log says of a kind of message.
type said struct {
	slog.Handler
	message string
	told    chan struct{}
}

func (said) Enabled(context.Context, slog.Level) bool { return true }

func (s said) Handle(_ context.Context, r slog.Record) error {
	if r.Message == s.message {
		select {
		case s.told <- struct{}{}:
		default:
		}
	}
	return nil
}

// How an attempt ended is stored when the database takes changes again, and
// the job is not left running.
func TestInsist(t *testing.T) {
	log := said{slog.DiscardHandler, "job cannot be stored", make(chan struct{})}
	w, err := openWith(t.TempDir(), noOpener{}, 1, blob.Options{}, func(o *Options) { o.Logger = slog.New(log) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	w.add(t, "news", map[string]string{"train": rows})
	j := w.submit(t, jobFile("a", "text-mlm", "recipe: {epochs: 20}\n"))
	for started := false; !started; time.Sleep(5 * time.Millisecond) {
		now, err := w.Job(t.Context(), j.ID)
		if err != nil {
			t.Fatal(err)
		}
		started = now.Phase == trainer.Running && now.Progress.Step > 0
	}
	accept := w.refuse(t)
	if _, err := w.Cancel(t.Context(), "ann", j.ID); err == nil || !strings.Contains(err.Error(), "nothing is taken") {
		t.Fatalf("the database takes changes: %v", err)
	}
	select {
	case <-log.told: // the end of the attempt
	case <-time.After(30 * time.Second):
		t.Fatal("the attempt does not end")
	}
	accept()
	if now := w.wait(t, j.ID); now.Phase != trainer.Succeeded || len(now.Attempts) != 1 {
		t.Errorf("%+v", now)
	}
}

// An event that does not fit its job is not insisted on.
func TestInsistEnds(t *testing.T) {
	w := newWorld(t, noOpener{}, 1)
	w.add(t, "news", map[string]string{"train": rows})
	j := w.wait(t, w.submit(t, jobFile("a", "text-mlm", "recipe: {epochs: 1}\n")).ID)
	w.insist("absent", trainer.Finished{Attempt: 1}, change{})
	w.insist(j.ID, trainer.ResumeAsked{At: w.now()}, change{})
	if now, err := w.Job(t.Context(), j.ID); err != nil || now.Phase != trainer.Succeeded {
		t.Errorf("%+v %v", now, err)
	}
}

package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"galley"
	"galley/internal/store"
	"galley/internal/store/storetest"
)

func wantError(t *testing.T, err error, code galley.Code, says string) {
	t.Helper()
	if galley.CodeOf(err) != code || !strings.Contains(fmt.Sprint(err), says) {
		t.Errorf("error %v, want code %s and %q", err, code, says)
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Register(t.Context(), storetest.Version("news", 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Model(t.Context(), "news"); galley.CodeOf(err) == "" {
		t.Error("a closed store answers")
	}
	s = open(t, dir)
	if m, err := s.Model(t.Context(), "news"); err != nil || m.Newest() != 1 {
		t.Errorf("%+v, %v", m, err)
	}
	info, err := os.Stat(filepath.Join(dir, databaseFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// A path with characters that mean something in a URL is taken as it is.
func TestOddPath(t *testing.T) {
	for _, name := range []string{"a b", "a?mode=memory", "100%20", "#1", "新闻"} {
		dir := filepath.Join(t.TempDir(), name)
		s := open(t, dir)
		if _, err := s.CreateJob(t.Context(), storetest.Job("a"), store.Commit{}); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{databaseFile, databaseFile + "-wal"} {
			if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Size() == 0 {
				t.Errorf("%s in %q: %v", file, name, err)
			}
		}
	}
}

func TestDurability(t *testing.T) {
	s := open(t, t.TempDir())
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		var got string
		if err := s.write.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, want %q: %v", pragma, got, want, err)
		}
	}
	if _, err := s.read.Exec(`DELETE FROM jobs`); err == nil {
		t.Error("a reading connection writes")
	}
}

func TestSecondOwnerIsRefused(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), dir)
	wantError(t, err, galley.FailedPrecondition, fmt.Sprintf("pid %d", os.Getpid()))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
}

// A file that a dead process left behind is no lock.
func TestStaleLockIsNoLock(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, lockFile), []byte("999999999999\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	data, err := os.ReadFile(filepath.Join(dir, lockFile))
	if err != nil || string(data) != fmt.Sprintln(os.Getpid()) {
		t.Errorf("lock file %q, %v", data, err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.write.Exec(`INSERT INTO schema_version VALUES (999, 'future')`); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), dir)
	wantError(t, err, galley.FailedPrecondition, "newer galley")
	_, err = Open(t.Context(), dir) // the refusal gave the lock free
	wantError(t, err, galley.FailedPrecondition, "newer galley")
}

// A migration that fails leaves the schema as it was.
func TestMigrationIsAtomic(t *testing.T) {
	db, err := connect(filepath.Join(t.TempDir(), "x.db"), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = migrateTo(t.Context(), db, "x.db", []string{"migrations/0001_initial.sql", "migrations/absent.sql"})
	if err == nil {
		t.Fatal("no error")
	}
	var version, tables int
	if err := db.QueryRow(`SELECT max(version) FROM schema_version`).Scan(&version); err != nil || version != 1 {
		t.Errorf("version %d, %v", version, err)
	}
	if _, err := db.Exec(`DELETE FROM schema_version`); err != nil {
		t.Fatal(err)
	}
	if err := migrate(t.Context(), db, "x.db"); err == nil { // its tables are there already
		t.Error("no error")
	}
	if err := db.QueryRow(`SELECT count(*) FROM schema_version`).Scan(&tables); err != nil || tables != 0 {
		t.Errorf("%d migrations recorded, %v", tables, err)
	}
}

func TestNotADatabase(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, databaseFile), []byte(strings.Repeat("no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), dir)
	wantError(t, err, galley.DataLoss, "backup")
}

func TestHomeBelowAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), filepath.Join(file, "home"))
	wantError(t, err, galley.FailedPrecondition, "GALLEY_HOME")
}

// A database that may not grow is what a full disk looks like to SQLite.
func TestFullDisk(t *testing.T) {
	s := open(t, t.TempDir())
	ctx := context.Background()
	if _, err := s.CreateJob(ctx, storetest.Job("first"), store.Commit{}); err != nil {
		t.Fatal(err)
	}
	var pages int
	if err := s.write.QueryRow(`PRAGMA page_count`).Scan(&pages); err != nil {
		t.Fatal(err)
	}
	if _, err := s.write.Exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages)); err != nil {
		t.Fatal(err)
	}
	var lines []store.Line
	for range 100 {
		lines = append(lines, store.Line{Text: strings.Repeat("x", store.MaxLine)})
	}
	wantError(t, s.AppendLines(ctx, "first", lines), galley.ResourceExhausted, "disk is full")
	if got, err := s.Lines(ctx, "first", 0, 10); err != nil || len(got) != 0 {
		t.Errorf("%d lines are stored, %v", len(got), err)
	}
	if _, err := s.write.Exec(`PRAGMA max_page_count = 1000000`); err != nil {
		t.Fatal(err)
	}
	if err := s.AppendLines(ctx, "first", lines); err != nil { // there is space again
		t.Error(err)
	}
}

func TestClosedDatabase(t *testing.T) {
	s, err := Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = s.Job(context.Background(), "a")
	wantError(t, err, galley.Unavailable, "closed")
}

func TestErrorsKeepTheirCode(t *testing.T) {
	own := galley.Errorf(galley.NotFound, "x", "gone")
	if err := coded("y", fmt.Errorf("wrapped: %w", own)); galley.CodeOf(err) != galley.NotFound {
		t.Error(err)
	}
	if err := coded("y", nil); err != nil {
		t.Error(err)
	}
	if err := coded("y", sql.ErrNoRows); galley.CodeOf(err) != galley.Internal {
		t.Error(err)
	}
}

//go:build unix

package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"galley"
	"galley/internal/audit"
	"galley/internal/store"
	"galley/internal/store/storetest"
	"galley/registry"
	"galley/trainer"
)

// oldHome makes a home as an earlier galley left it. testdata has dumps of
// homes that galleys with those schemas wrote; what came between them and now
// is made by the migrations.
func oldHome(t testing.TB, schema int) string {
	t.Helper()
	dir := t.TempDir()
	db := rawDatabase(t, dir)
	written := min(schema, 2)
	dump, err := os.ReadFile(filepath.Join("testdata", fmt.Sprintf("schema%d.sql", written)))
	if err != nil {
		t.Fatal(err)
	}
	// A dump has its tables in the order of their names.
	if _, err := db.Exec("PRAGMA foreign_keys = off;\n" + string(dump) + "PRAGMA foreign_keys = on;"); err != nil {
		t.Fatal(err)
	}
	if err := migrateTo(t.Context(), db, dir, migrations(t)[:schema]); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// rawDatabase opens a home's database without looking at its schema.
func rawDatabase(t testing.TB, dir string) *sql.DB {
	t.Helper()
	db, err := connect(filepath.Join(dir, databaseFile), 1, "_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func migrations(t testing.TB) []string {
	t.Helper()
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// Migrations are numbered in their order, and a rewrite belongs to one.
func TestMigrationNames(t *testing.T) {
	names := migrations(t)
	for i, name := range names {
		if !strings.HasPrefix(name, fmt.Sprintf("migrations/%04d_", i+1)) {
			t.Errorf("migration %d is %s", i+1, name)
		}
	}
	for name := range rewrites {
		if !slices.Contains(names, name) {
			t.Errorf("there is no %s to rewrite after", name)
		}
	}
}

// A home of each earlier schema opens, has all it had, and goes on.
func TestMigrationFromEverySchema(t *testing.T) {
	for schema := 1; schema < len(migrations(t)); schema++ {
		t.Run(fmt.Sprint("schema ", schema), func(t *testing.T) {
			dir := oldHome(t, schema)
			checkOldHome(t, open(t, dir), schema)
		})
	}
}

// checkOldHome checks and uses what the dumps hold.
func checkOldHome(t *testing.T, s *Store, schema int) {
	t.Helper()
	ctx := t.Context()
	at := storetest.Version("news", 0).Created
	numbers := []int{1, 2, 3}
	written := int64(12) // entries of the audit log
	if schema > 1 {      // there versions can be deleted
		numbers, written = numbers[:2], 13
	}
	m, err := s.Model(ctx, "news")
	if err != nil || len(m.Versions) != len(numbers) {
		t.Fatalf("%+v, %v", m, err)
	}
	for i, number := range numbers {
		want, err := storetest.Version("news", i).Complete()
		if err != nil {
			t.Fatal(err)
		}
		if v, err := s.Version(ctx, "news", number); err != nil || v.Digest != want.Digest || v.Lineage.Job != want.Lineage.Job || len(v.Reports) != max(0, 1-i) {
			t.Errorf("news@%d: %+v, %v", number, v, err)
		}
	}
	if a, ok := m.Alias("prod"); !ok || a.Target != 1 || a.Generation != 3 {
		t.Errorf("%+v", a)
	}
	if h, err := s.History(ctx, "news", "prod", 10); err != nil || len(h) != 3 || h[2].Reason != "because 1" || !h[0].At.Equal(at) {
		t.Errorf("%+v, %v", h, err)
	}
	if d, err := s.Datasets(ctx, "", 10); err != nil || len(d) != 2 || d[1].Ref() != "headlines@2" {
		t.Errorf("%+v, %v", d, err)
	}
	j, err := s.Job(ctx, "job-1")
	if err != nil || j.Phase != trainer.Running || j.Attempt() != 1 || j.Owner != "editor" {
		t.Errorf("%+v, %v", j, err)
	}
	if lines, err := s.Lines(ctx, "job-1", 0, 10); err != nil || len(lines) != 2 || lines[1].Text != "央行 step 1/10" {
		t.Errorf("%+v, %v", lines, err)
	}
	if e, err := s.PendingEffects(ctx, 10); err != nil || len(e) != 4 || e[0].Kind != "start-attempt" || e[1].Kind != store.AliasMoved {
		t.Errorf("%+v, %v", e, err)
	}
	checkOldAudit(t, s, written, at)

	// It goes on: numbers, generations and the log follow.
	v, _, err := s.Register(ctx, storetest.Version("news", 7))
	if err != nil || v.Number != 4 {
		t.Errorf("%+v, %v", v, err)
	}
	c, err := s.Promote(ctx, registry.Request{Model: "news", Alias: "prod", Target: 4, Expect: 3, By: "editor", At: at})
	if err != nil || c.Generation != 4 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := s.SaveJob(ctx, j, store.Commit{By: "editor", At: at, Action: "job.cancel"}); err != nil {
		t.Error(err)
	}
	verifyAudit(t, s, written+4)
}

func checkOldAudit(t *testing.T, s *Store, written int64, at time.Time) {
	t.Helper()
	log := verifyAudit(t, s, written+1)
	for i, want := range []string{"data.add headlines@1", "data.add headlines@2", "job.submit job-1", "job.submit job-2", "version.register news@1"} {
		if e := log[i]; e.Actor != "editor" || e.Action+" "+e.Subject != want || !e.At.Equal(at) || e.Address != "" {
			t.Errorf("entry %d: %+v", i+1, e)
		}
	}
	if e := log[written]; e.Action != "audit.chain" || e.Actor != galley.System || time.Since(e.At) > time.Hour {
		t.Errorf("the log does not say when it was chained: %+v", e)
	}
}

// verifyAudit checks the audit log, which has so many entries, and returns it.
func verifyAudit(t testing.TB, s *Store, want int64) []audit.Entry {
	t.Helper()
	head, err := s.AuditHead(t.Context())
	if err != nil || head.Entries != want {
		t.Fatalf("head %+v, want %d entries: %v", head, want, err)
	}
	v := audit.NewVerifier(head)
	var all []audit.Entry
	for {
		some, err := s.Audit(t.Context(), store.AuditQuery{After: v.At().Entries, Limit: store.MaxList})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range some {
			if err := v.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, some...)
		if len(some) < store.MaxList {
			break
		}
	}
	if err := v.Finish(); err != nil {
		t.Fatal(err)
	}
	return all
}

// A migration for which the disk has no room leaves the home as it was.
func TestMigrationOnFullDisk(t *testing.T) {
	dir := oldHome(t, 2)
	db := rawDatabase(t, dir)
	before := dumpSchema(t, db)
	if _, err := db.Exec(`INSERT INTO audit (at, actor, action, subject, detail)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 2000) SELECT i, 'a', 'b', 'c', '' FROM n`); err != nil {
		t.Fatal(err)
	}
	var pages int
	if err := db.QueryRow(`PRAGMA page_count`).Scan(&pages); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+10)); err != nil {
		t.Fatal(err)
	}
	wantError(t, coded(dir, migrate(t.Context(), db, dir)), galley.ResourceExhausted, "disk is full")
	if after := dumpSchema(t, db); after != before {
		t.Errorf("the schema is\n%s\nwas\n%s", after, before)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	verifyAudit(t, open(t, dir), 2013+1)
}

// dumpSchema writes the schema with its version.
func dumpSchema(t testing.TB, db *sql.DB) string {
	t.Helper()
	rows, err := db.Query(`SELECT coalesce(sql, name) FROM sqlite_master UNION ALL SELECT name FROM schema_version`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out strings.Builder
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&out, line)
	}
	return out.String()
}

// A process that is killed while it migrates leaves the old schema or the new
// one, and the next one goes on from there.
func TestKillDuringMigration(t *testing.T) {
	const extra = 3000 // entries, so that chaining them takes a while
	kills := 6
	if testing.Short() {
		kills = 2 // each waits for a process to start
	}
	dir := oldHome(t, 2)
	db := rawDatabase(t, dir)
	_, err := db.Exec(fmt.Sprintf(`INSERT INTO audit (at, actor, action, subject, detail)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) SELECT i, 'editor', 'b', 'c', '' FROM n`, extra))
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	killed := 0
	for i := range kills {
		c := child(t.Context(), "open", dir)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(10+30*i)*time.Millisecond, func() { c.Process.Kill() })
		var exit *exec.ExitError
		if err := c.Wait(); errors.As(err, &exit) && exit.ExitCode() == -1 {
			killed++
		} else if err != nil {
			t.Fatal(err)
		}
		timer.Stop()
		db := rawDatabase(t, dir)
		var check string
		var version, digests int
		if err := db.QueryRow(`PRAGMA integrity_check`).Scan(&check); err != nil || check != "ok" {
			t.Fatalf("%s, %v", check, err)
		}
		if err := db.QueryRow(`SELECT max(version) FROM schema_version`).Scan(&version); err != nil {
			t.Fatal(err)
		}
		if err := db.QueryRow(`SELECT count(*) FROM pragma_table_info('audit') WHERE name = 'digest'`).Scan(&digests); err != nil || version == 2 && digests != 0 || version > 2 && digests != 1 {
			t.Fatalf("schema %d, digests %d, %v", version, digests, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of %d were killed", killed, kills)
	verifyAudit(t, open(t, dir), 13+extra+1)
}

//go:build unix

package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"galley"
	"galley/internal/store"
	"galley/internal/store/storetest"
	"galley/registry"
)

// The test binary is also the second process of these tests: with childRole
// set it plays that role instead.
const childRole, childHome = "GALLEY_TEST_ROLE", "GALLEY_TEST_HOME"

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		if err := play(role, os.Getenv(childHome)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(ctx context.Context, role, home string) *exec.Cmd {
	c := exec.CommandContext(ctx, os.Args[0])
	c.Env = append(os.Environ(), childRole+"="+role, childHome+"="+home)
	return c
}

func play(role, home string) error {
	s, err := Open(context.Background(), home)
	if err != nil || role != "write" {
		return err
	}
	return write(s)
}

// write registers versions, moves an alias and steps a job for ever, and says
// on standard output what has been acknowledged.
func write(s *Store) error {
	ctx := context.Background()
	m, err := s.Model(ctx, "news")
	if err != nil && galley.CodeOf(err) != galley.NotFound {
		return err
	}
	j, err := s.Job(ctx, "job")
	if galley.CodeOf(err) == galley.NotFound {
		j, err = s.CreateJob(ctx, storetest.Job("job"), store.Commit{})
	}
	if err != nil {
		return err
	}
	fmt.Println("job", j.Generation)
	for n := m.Newest() + 1; ; n++ {
		v, _, err := s.Register(ctx, storetest.Version("news", n))
		if err != nil {
			return err
		}
		fmt.Println("version", v.Number)
		c, err := s.Promote(ctx, registry.Request{Model: "news", Alias: "prod", Target: v.Number, Expect: registry.AnyGeneration, By: "child", At: time.Unix(0, 0)})
		if err != nil {
			return err
		}
		fmt.Println("alias", c.Generation)
		j.Progress.Step++
		if j, err = s.SaveJob(ctx, j, store.Commit{Action: "job.step", Effects: []store.Effect{{Kind: "step"}}}); err != nil {
			return err
		}
		fmt.Println("job", j.Generation)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	out, err := child(t.Context(), "open", dir).CombinedOutput()
	if err == nil || !strings.Contains(string(out), fmt.Sprintf("is in use by the galley process with pid %d", os.Getpid())) {
		t.Errorf("%v: %s", err, out)
	}
}

// Killed at any moment, a process loses nothing that it has acknowledged, and
// leaves nothing half done.
func TestKillDuringCommit(t *testing.T) {
	kills := 8
	if testing.Short() {
		kills = 2 // each waits for a process to start
	}
	dir := t.TempDir()
	acknowledged := map[string]int64{}
	for range kills {
		c := child(t.Context(), "write", dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() {
			t.Fatal("the child says nothing")
		}
		time.AfterFunc(time.Duration(rand.Int64N(int64(60*time.Millisecond))), func() { c.Process.Kill() })
		for more := true; more; more = lines.Scan() {
			var what string
			var n int64
			if _, err := fmt.Sscan(lines.Text(), &what, &n); err != nil {
				break // cut off by the kill, or an error of the child
			}
			acknowledged[what] = max(acknowledged[what], n)
		}
		var exit *exec.ExitError
		if err := c.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
			t.Fatalf("the child was not killed: %v: %s", err, lines.Text())
		}
		checkWhole(t, dir, acknowledged)
	}
	t.Logf("acknowledged %v", acknowledged)
}

func checkWhole(t *testing.T, dir string, acknowledged map[string]int64) {
	t.Helper()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var check string
	if err := s.write.QueryRow(`PRAGMA integrity_check`).Scan(&check); err != nil || check != "ok" {
		t.Fatalf("integrity: %s, %v", check, err)
	}
	m, err := s.Model(t.Context(), "news")
	if err != nil && (galley.CodeOf(err) != galley.NotFound || acknowledged["version"] > 0) {
		t.Fatal(err)
	}
	a, _ := m.Alias("prod")
	j, err := s.Job(t.Context(), "job")
	if err != nil {
		t.Fatal(err)
	}
	for what, have := range map[string]int64{"version": int64(m.Newest()), "alias": a.Generation, "job": j.Generation} {
		if have < acknowledged[what] || have > acknowledged[what]+1 {
			t.Errorf("%s: %d was acknowledged, %d is stored", what, acknowledged[what], have)
		}
		acknowledged[what] = have
	}
	if len(m.Versions) != m.Newest() {
		t.Errorf("%d versions up to %d", len(m.Versions), m.Newest())
	}
	if last, err := s.History(t.Context(), "news", "prod", 1); err != nil || len(last) > 0 && last[0].To != a.Target {
		t.Errorf("the alias is at %d, its history at %+v: %v", a.Target, last, err)
	}
	for query, want := range map[string]int64{
		`SELECT count(*) FROM alias_changes`:                                  a.Generation,
		`SELECT count(*) FROM effects WHERE aggregate = 'job/job'`:            j.Generation - 1,
		`SELECT count(*) FROM effects WHERE kind = 'alias-moved'`:             a.Generation,
		`SELECT count(*) FROM audit WHERE action = 'job.step'`:                j.Generation - 1,
		`SELECT count(*) FROM audit WHERE action = 'version.register'`:        int64(m.Newest()),
		`SELECT count(*) FROM audit WHERE action = 'alias.promote'`:           a.Generation,
		`SELECT coalesce(max(number), 0) - count(*) FROM audit`:               0,
		`SELECT count(*) FROM versions WHERE number <> json(body->>'number')`: 0,
	} {
		var got int64
		if err := s.write.QueryRow(query).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %d, want %d: %v", query, got, want, err)
		}
	}
}

// A home that may not be written says so. Root may write everywhere, so root
// tests it as somebody else.
func TestReadOnlyHome(t *testing.T) {
	dir, err := os.MkdirTemp("", "galley-home-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o555); err != nil {
		t.Fatal(err)
	}
	for _, h := range []string{home, filepath.Join(home, "below")} {
		c := child(t.Context(), "open", h)
		if os.Geteuid() == 0 {
			c = asNobody(t, c, dir)
		}
		out, err := c.CombinedOutput()
		if errors.Is(err, syscall.EPERM) {
			t.Skipf("cannot become another user: %v", err)
		}
		if err == nil || !strings.Contains(string(out), "galley may not write there") || !strings.Contains(string(out), "GALLEY_HOME") {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// asNobody makes c run as a user without rights, with a copy of the binary
// that this user may read.
func asNobody(t *testing.T, c *exec.Cmd, dir string) *exec.Cmd {
	t.Helper()
	data, err := os.ReadFile(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	c.Path = filepath.Join(dir, "test")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(c.Path, data, 0o755)); err != nil {
		t.Fatal(err)
	}
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return c
}

// The lock of a process that is gone is waited for; that of one that lives is
// not.
func TestLockOutlivesItsOwner(t *testing.T) {
	ended := child(t.Context(), "", t.TempDir())
	ended.Args = append(ended.Args, "-test.run=^$")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	hold := func(pid int) *os.File {
		f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(f, pid)
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := hold(ended.Process.Pid)
	time.AfterFunc(100*time.Millisecond, func() { f.Close() })
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	f = hold(os.Getpid())
	defer f.Close()
	began := time.Now()
	_, err = Open(t.Context(), dir)
	if galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), fmt.Sprint("pid ", os.Getpid())) || time.Since(began) > lockPatience/2 {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

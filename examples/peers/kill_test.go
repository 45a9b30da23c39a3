package peers_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"galley/examples/headlines"
)

// The job whose processes are killed: a classifier of sixty steps.
const (
	killedJob = `apiVersion: galley/v1
kind: Train
name: topics
task: text-classification
data: {dataset: headlines}
model: {layers: 2, hidden: 64, heads: 2, max_length: 48, ngrams: {buckets: 4096, orders: 2, width: 16}}
recipe: {max_steps: 60, validate_every: 20, checkpoint_every: 5, seed: 3}
`
	checkpointEvery = 5
	kills           = 10
)

// A jobState is what `jobs show` says of a job.
type jobState struct {
	Job      string
	Phase    string
	Versions []string
	Progress struct{ Step, Steps, Checkpoint int }
	Attempts []struct {
		Number  int
		Started time.Time
		Ended   *time.Time
		From    int `json:"from_step"`
		Step    int
		Outcome string
	}
	Error *struct{ Message string }
}

// TestPeerKill kills each attempt of a job until the job gives up and is
// resumed, then an attempt's process, its server, or both at ten random
// moments: every job still comes to its end, begins each attempt at its last
// checkpoint, and makes the model that the job makes that nobody disturbs.
// GALLEY_KILL_SEED repeats a run's moments.
func TestPeerKill(t *testing.T) {
	if testing.Short() {
		t.Skip("trains and kills for most of a minute")
	}
	file := filepath.Join(t.TempDir(), "job.yaml")
	if err := os.WriteFile(file, []byte(killedJob), 0o644); err != nil {
		t.Fatal(err)
	}
	whole, want := undisturbed(t, file)

	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("GALLEY_KILL_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("GALLEY_KILL_SEED=%d; undisturbed, the job takes %v", seed, whole)
	d := &disturbed{home: homeWithHeadlines(t), file: file, random: rand.New(rand.NewPCG(seed, 0))}
	d.server = startServer(t, d.home)
	defer func() { d.server.kill() }()
	d.submit(t)
	d.exhaust(t)
	for range kills {
		time.Sleep(time.Duration(d.random.Int64N(int64(whole/2) + 1)))
		d.kill(t)
		d.goOn(t)
	}
	d.finish(t)

	resumed := 0
	for _, id := range d.jobs {
		j := showJob(t, d.server, id)
		resumed += d.check(t, j)
		if got := digestOf(t, d.server, j.Versions[0]); got != want {
			t.Errorf("%s made %s after %d attempts, undisturbed it is %s", id, got, len(j.Attempts), want)
		}
	}
	if resumed == 0 {
		t.Error("no attempt began at a checkpoint: the kills came too early")
	}
	t.Logf("%d attempts of %d jobs began at a checkpoint", resumed, len(d.jobs))
}

// homeWithHeadlines makes a home that has the headlines.
func homeWithHeadlines(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, headlines.Files); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(dir, "home")
	call(t, home, "", nil, "data", "add", "headlines",
		"--train", filepath.Join(dir, "train.csv"), "--valid", filepath.Join(dir, "valid.csv"), "--test", filepath.Join(dir, "test.csv"))
	return home
}

// undisturbed runs the job in a home of its own and returns how long its
// attempt took and the digest of its version.
func undisturbed(t *testing.T, file string) (time.Duration, string) {
	t.Helper()
	s := startServer(t, homeWithHeadlines(t))
	defer s.kill()
	var made jobState
	s.call(t, &made, "train", file, "--wait")
	j := showJob(t, s, made.Job)
	if len(j.Attempts) != 1 || j.Attempts[0].Ended == nil || len(j.Versions) != 1 {
		t.Fatalf("undisturbed, the job is %+v", j)
	}
	digest := digestOf(t, s, j.Versions[0])
	if status := s.stop(); status != 0 {
		t.Errorf("after SIGTERM, the server exits %d: %s", status, s.said())
	}
	return j.Attempts[0].Ended.Sub(j.Attempts[0].Started), digest
}

func showJob(t *testing.T, s *server, id string) (j jobState) {
	t.Helper()
	s.call(t, &j, "jobs", "show", id)
	return j
}

func digestOf(t *testing.T, s *server, ref string) string {
	t.Helper()
	var v struct{ Digest string }
	s.call(t, &v, "models", "show", ref)
	return v.Digest
}

// A disturbed home has a job under way whose processes are killed.
type disturbed struct {
	home, file string
	random     *rand.Rand
	server     *server
	jobs       []string // the last one is under way
	marks      []mark
}

// A mark is a checkpoint that a job had when an attempt of it was gone:
// attempts after it begin there, or later.
type mark struct {
	job                 string
	attempt, checkpoint int
}

func (d *disturbed) submit(t *testing.T) {
	t.Helper()
	var j jobState
	d.server.call(t, &j, "train", d.file)
	d.jobs = append(d.jobs, j.Job)
}

// kill kills the attempt, the server, or both.
func (d *disturbed) kill(t *testing.T) {
	t.Helper()
	attempts := children(d.server.cmd.Process.Pid)
	victim := d.random.IntN(3)
	if len(attempts) == 0 {
		victim = 1 // nothing runs just now, or the system does not tell
	}
	if victim != 1 {
		for _, pid := range attempts {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
	if victim != 0 {
		d.server.kill()
		d.server = startServer(t, d.home)
	}
	t.Logf("killed %s", []string{"the attempt", "the server", "both"}[victim])
}

// exhaust kills each attempt as soon as it appears until the job has failed
// of it, and resumes the job.
func (d *disturbed) exhaust(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Log("attempts are not found here: only servers are killed")
		return
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		for _, pid := range children(d.server.cmd.Process.Pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
		j := showJob(t, d.server, d.jobs[0])
		if j.Phase == "failed" {
			if j.Error == nil || !strings.Contains(j.Error.Message, "SIGKILL") {
				t.Errorf("after %d killed attempts the job fails with %+v", len(j.Attempts), j.Error)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the job does not give up: %+v", j)
		}
	}
	d.server.call(t, nil, "jobs", "resume", d.jobs[0])
}

// goOn makes sure that a job is under way: one that crashed too often is
// resumed, one that is done is followed by the same again.
func (d *disturbed) goOn(t *testing.T) {
	t.Helper()
	j := showJob(t, d.server, d.jobs[len(d.jobs)-1])
	for i := range j.Attempts {
		if a := j.Attempts[i]; i == len(j.Attempts)-1 && a.Ended != nil && a.Outcome != "finished" {
			d.marks = append(d.marks, mark{j.Job, a.Number, j.Progress.Checkpoint})
		}
	}
	switch j.Phase {
	case "failed":
		t.Logf("resumed after %d attempts: %+v", len(j.Attempts), j.Error)
		d.server.call(t, nil, "jobs", "resume", j.Job)
	case "succeeded":
		d.submit(t)
	}
}

// finish waits for the last job.
func (d *disturbed) finish(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		j := showJob(t, d.server, d.jobs[len(d.jobs)-1])
		if j.Phase == "succeeded" {
			return
		}
		if j.Phase == "failed" || time.Now().After(end) {
			t.Fatalf("left alone, the job is %+v", j)
		}
	}
}

// check holds a job's attempts to its checkpoints, and counts those that
// began at one. Beginnings need not be multiples of the interval: an attempt
// whose server dies leaves a checkpoint at the step it is at.
func (d *disturbed) check(t *testing.T, j jobState) (resumed int) {
	t.Helper()
	if j.Phase != "succeeded" || len(j.Versions) != 1 {
		t.Fatalf("the job is %+v", j)
	}
	reached := 0 // the furthest step that any attempt told of
	for _, a := range j.Attempts {
		t.Logf("%s attempt %d: %s from step %d at step %d", j.Job, a.Number, a.Outcome, a.From, a.Step)
		if a.Step == 0 {
			continue // it was gone before it began
		}
		if a.From < reached-checkpointEvery {
			t.Errorf("attempt %d begins at step %d after step %d was reached: more than a checkpoint's interval is lost", a.Number, a.From, reached)
		}
		for _, m := range d.marks {
			if m.job == j.Job && a.Number > m.attempt && a.From < m.checkpoint {
				t.Errorf("attempt %d begins at step %d, before the checkpoint of step %d that attempt %d left", a.Number, a.From, m.checkpoint, m.attempt)
			}
		}
		reached = max(reached, a.Step)
		if a.From > 0 {
			resumed++
		}
	}
	return resumed
}

// children lists the processes that a process started, where the system tells
// of them as Linux does.
func children(parent int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// PID (NAME) STATE PARENT ...; a name may have any sign in it.
		before, after, ok := strings.Cut(string(stat), " (")
		fields := strings.Fields(after[strings.LastIndex(after, ")")+1:])
		if !ok || len(fields) < 2 || fields[0] == "Z" || fields[1] != strconv.Itoa(parent) {
			continue
		}
		if pid, err := strconv.Atoi(before); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"galley/internal/faults"
)

// kills is how often the job is killed.
const kills = 10

// A job whose process is killed at ten random moments makes the same model, to
// the bit, as one that runs through.
func TestKilledJobMakesTheSameModel(t *testing.T) {
	if testing.Short() {
		t.Skip("kills the attempts of a job for several seconds")
	}
	h := &trainedHome{t: t, runtime: runtimePath(t)}
	if h.runtime == "" {
		t.Skip("ONNX Runtime is not here")
	}
	if h.make(); h.err != nil {
		t.Fatal(h.err)
	}
	s := startServer(t, h)
	submit := func(name string) string {
		return s.ask(t, "train", filepath.Join(h.dir, "job.yaml"), "--set", "name="+name, "--set", "recipe.max_steps=2000", "--set", "recipe.epochs=1000",
			"--set", "recipe.checkpoint_every=50", "--set", "recipe.validate_every=500", "--set", "recipe.early_stop=0").Job
	}
	wait := func(id string) answer {
		for {
			switch j := s.ask(t, "jobs", "show", id); j.Phase {
			case "queued", "running":
				time.Sleep(50 * time.Millisecond)
			default:
				return j
			}
		}
	}
	whole := wait(submit("whole"))
	id := submit("killed")
	killed := 0
	r := rand.New(rand.NewPCG(1, 2))
	for killed < kills {
		time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond)
		j := s.ask(t, "jobs", "show", id)
		if j.Phase == "succeeded" {
			break
		}
		if j.Phase == "failed" { // three in a row died before a checkpoint
			s.ask(t, "jobs", "resume", id)
		}
		n, err := faults.KillChildren(s.process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		killed += n
	}
	j := wait(id)
	if j.Phase == "failed" {
		s.ask(t, "jobs", "resume", id)
		j = wait(id)
	}
	if whole.Phase != "succeeded" || j.Phase != "succeeded" || killed < kills/2 {
		t.Fatalf("%s, and after %d kills %s", whole.Phase, killed, j.Phase)
	}
	begun := 0
	for i, a := range j.Attempts {
		if a.From == 0 {
			continue // killed before it said where it began
		}
		if a.From < begun {
			t.Errorf("attempt %d began at step %d, one before it at %d", i+1, a.From, begun)
		}
		begun = a.From
	}
	want, got := s.model(t, whole.Versions[0]), s.model(t, j.Versions[0])
	if got != want {
		t.Errorf("after %d kills and %d attempts the model is %s, want %s", killed, len(j.Attempts), got, want)
	}
	t.Logf("%d kills, %d attempts", killed, len(j.Attempts))
}

// A server is `galley up` in a process of its own.
type server struct {
	process             *os.Process
	address             string // gRPC
	http, metrics, said string
	ended               chan error
}

// startServer serves the home until the test ends.
func startServer(t *testing.T, h *trainedHome) *server {
	t.Helper()
	s := spawnServer(t, filepath.Join(h.dir, "home"), h.runtime)
	t.Cleanup(func() { s.drain(t) })
	return s
}

// spawnServer serves a home until it is stopped, by whatever means.
func spawnServer(t *testing.T, home, runtime string, flags ...string) *server {
	t.Helper()
	c := exec.Command("galley", append([]string{"up", "--listen-http", "127.0.0.1:0", "--listen-grpc", "127.0.0.1:0", "--listen-metrics", "127.0.0.1:0", "--home", home}, flags...)...)
	c.Env = append(os.Environ(), "GALLEY_ORT_LIB="+runtime)
	stderr, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	s := &server{process: c.Process, ended: make(chan error, 1)}
	lines := bufio.NewScanner(stderr)
	for s.address == "" && lines.Scan() {
		s.said += lines.Text() + "\n"
		if _, err := fmt.Sscanf(lines.Text(), "ready http=%s grpc=%s metrics=%s", &s.http, &s.address, &s.metrics); err != nil {
			s.address = ""
		}
	}
	go func() {
		for lines.Scan() { // so that the server never waits for a reader
			s.said += lines.Text() + "\n" // to be read after the end
		}
		s.ended <- c.Wait()
	}()
	if s.address == "" {
		t.Fatalf("the server did not become ready: %v: %s", <-s.ended, s.said)
	}
	return s
}

// drain stops the server politely.
func (s *server) drain(t *testing.T) {
	t.Helper()
	_ = s.process.Signal(syscall.SIGTERM)
	if err := <-s.ended; err != nil {
		t.Errorf("the server: %v: %s", err, s.said)
	}
}

// An answer is what this test reads of the program's JSON.
type answer struct {
	Job      string   `json:"job"`
	Phase    string   `json:"phase"`
	Versions []string `json:"versions"`
	Attempts []struct {
		From int `json:"from_step"`
	} `json:"attempts"`
	Files []fileJSON `json:"files"`
}

func (s *server) ask(t *testing.T, args ...string) (a answer) {
	t.Helper()
	c := exec.Command("galley", append(args, "-o", "json", "--server", s.address)...)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	if err := json.Unmarshal(out, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// model is the digest of a version's graph.
func (s *server) model(t *testing.T, ref string) string {
	t.Helper()
	for _, f := range s.ask(t, "models", "show", ref).Files {
		if f.Path == "model.onnx" {
			return f.Digest
		}
	}
	t.Fatalf("%s has no graph", ref)
	return ""
}

//go:build peers && bench

package main

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A flower is Flower as it is deployed: a superlink and a supernode for each
// partner, which start processes of their own for the app of testdata/flower.
// All of it is on this machine, without TLS, without telemetry, with its state
// in memory.
type flower struct {
	dir, python string
	env         []string
	partners    int
	link        string // address
	runs        int
	pause       time.Duration
	ended       chan string // processes that ended by themselves
}

// A pace is how often Flower's processes look for work. The supernodes' own is
// fixed: 3 s for a message, 0.5 s for its answer.
type pace struct {
	name    string
	answers time.Duration // the server looks for answers
	tasks   time.Duration // a superlink or supernode looks for tasks
}

var paces = []pace{
	{"as it comes", 3 * time.Second, time.Second},
	{"that looks four times a second", 250 * time.Millisecond, 250 * time.Millisecond},
}

// startFlower starts superlink and supernodes, until the test ends.
func startFlower(t *testing.T, partners int, p pace) *flower {
	t.Helper()
	python := os.Getenv("GALLEY_FLOWER_PYTHON")
	if python == "" {
		t.Skip("GALLEY_FLOWER_PYTHON names no Python with Flower")
	}
	dir := t.TempDir()
	f := &flower{dir: dir, python: python, partners: partners, link: quietAddress(t), pause: p.answers, ended: make(chan string, 1+partners)}
	f.env = append(os.Environ(),
		"PATH="+filepath.Dir(python)+string(os.PathListSeparator)+os.Getenv("PATH"),
		"FLWR_HOME="+dir, "FLWR_TELEMETRY_ENABLED=0", "FLWR_DISABLE_UPDATE_CHECK=1",
		fmt.Sprintf("FLWR_SUPEREXEC_TASK_POLL_INTERVAL=%g", p.tasks.Seconds()),
	)
	if err := os.CopyFS(filepath.Join(dir, "app"), os.DirFS(filepath.Join("testdata", "flower"))); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("[superlink]\ndefault = 'bench'\n[superlink.bench]\naddress = '%s'\ninsecure = true\n", f.link)
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.kill(t) })
	host, port, _ := net.SplitHostPort(f.link)
	f.start(t, "flower-superlink", "--insecure", "--host", host, "--port", port, "--disable-runtime-dependency-installation")
	awaitPort(t, f.link)
	for i := range partners {
		_, port, _ := net.SplitHostPort(quietAddress(t))
		f.start(t, "flower-supernode", "--insecure", "--superlink", f.link, "--port", port, "--node-config", fmt.Sprintf("step=%g", stepOf(i)))
	}
	return f
}

func (f *flower) start(t *testing.T, name string, args ...string) {
	t.Helper()
	c := f.command(name, args...)
	said, err := os.CreateTemp(f.dir, name+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	c.Stdout, c.Stderr = said, said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		err := c.Wait()
		text, _ := os.ReadFile(said.Name())
		f.ended <- fmt.Sprintf("%s: %v\n%s", name, err, text)
	}()
}

func (f *flower) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(filepath.Dir(f.python), name), args...)
	c.Env, c.Dir = f.env, f.dir
	return c
}

// kill ends all processes of Flower's, also those that are nobody's children
// any more: they have its folder in their environment.
func (f *flower) kill(t *testing.T) {
	mark := []byte("\x00FLWR_HOME=" + f.dir + "\x00")
	for begun := time.Now(); time.Since(begun) < 10*time.Second; time.Sleep(100 * time.Millisecond) {
		left := 0
		environments, err := filepath.Glob("/proc/[0-9]*/environ")
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range environments {
			env, err := os.ReadFile(path)
			if err != nil || !bytes.Contains(env, mark) {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				t.Fatal(err)
			}
			left++
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if left == 0 {
			return
		}
	}
	t.Error("processes of Flower's are left")
}

// rounds runs one round for processes to find each other and n that count, over
// so many numbers, and returns how many of these there are in a second.
func (f *flower) rounds(t *testing.T, n, numbers int) float64 {
	t.Helper()
	f.runs++
	out := filepath.Join(f.dir, fmt.Sprintf("rounds-%d", f.runs))
	settings := fmt.Sprintf("partners=%d rounds=%d numbers=%d pause=%.3f out=%q", f.partners, 1+n, numbers, f.pause.Seconds(), out)
	if said, err := f.command("flwr", "run", filepath.Join(f.dir, "app"), "bench", "--run-config", settings).CombinedOutput(); err != nil {
		t.Fatalf("flwr run: %v\n%s", err, said)
	}
	type round struct {
		number     int
		over, mean float64
	}
	var rounds []round
	for begun := time.Now(); len(rounds) < 2+n; {
		select {
		case said := <-f.ended:
			t.Fatalf("Flower goes away: %s", said)
		case <-time.After(100 * time.Millisecond):
		}
		if time.Since(begun) > time.Duration(2+n)*2*time.Minute {
			t.Fatalf("Flower made %d rounds in %v", len(rounds)-1, time.Since(begun))
		}
		data, err := os.ReadFile(out)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		rounds = rounds[:0]
		for line := range strings.Lines(string(data)) {
			var r round
			if _, err := fmt.Sscanf(line, "%d %f %f\n", &r.number, &r.over, &r.mean); err == nil {
				rounds = append(rounds, r)
			}
		}
	}
	for i, r := range rounds {
		// Nobody trained: each partner has added its step in each round.
		if want := float64(i) * meanStep(f.partners); r.number != i || math.Abs(r.mean-want) > 1e-6 {
			t.Fatalf("after round %d Flower's weights are %g, want %g", r.number, r.mean, want)
		}
	}
	return float64(n) / (rounds[1+n].over - rounds[1].over)
}

// quietAddress is free, and stays so until a program of Python's has it: its port
// is none that the machine gives to connections.
func quietAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)))
		if err == nil {
			l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

func awaitPort(t *testing.T, address string) {
	t.Helper()
	var err error
	for begun := time.Now(); time.Since(begun) < time.Minute; time.Sleep(100 * time.Millisecond) {
		var c net.Conn
		if c, err = net.Dial("tcp", address); err == nil {
			c.Close()
			return
		}
	}
	t.Fatal(err)
}

// A spread is what was measured in repeats.
type spread []float64

func (s spread) median() float64 { return slices.Sorted(slices.Values(s))[len(s)/2] }

func (s spread) String() string {
	return fmt.Sprintf("%.4g (%.4g to %.4g)", s.median(), slices.Min(s), slices.Max(s))
}

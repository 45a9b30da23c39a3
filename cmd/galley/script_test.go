package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"galley/internal/ort"
	"galley/internal/ort/library"
)

// programs are those that tests start, each of which this test binary is, under
// their names.
var programs = map[string]func(){"galley": main}

// A server in a test's own process starts this binary under its own name, for
// attempts of jobs and to try models: they must not run the tests again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == attemptName || os.Args[1] == probeName) {
		main()
	}
	testscript.Main(m, programs)
}

func TestScripts(t *testing.T) {
	runtimeLib := runtimePath(t)
	trained := &trainedHome{t: t, runtime: runtimeLib}
	testscript.Run(t, testscript.Params{
		Dir: "testdata", ContinueOnError: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("GALLEY_HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("GALLEY_SERVER", "127.0.0.1:1") // no one answers there
			e.Setenv("GALLEY_ORT_LIB", runtimeLib)
			e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, "cache"))
			e.Setenv("MINILM", minilm())
			testdata, err := filepath.Abs("testdata")
			e.Setenv("TESTDATA", testdata)
			return err
		},
		Condition: func(condition string) (bool, error) {
			switch condition {
			case "runtime": // ONNX Runtime is here
				return runtimeLib != "", nil
			case "minilm": // the shared model is here
				return minilm() != "", nil
			}
			return false, fmt.Errorf("unknown condition %s", condition)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     exits,
			"json":      jsonField,
			"job":       job,
			"predicted": predicted,
			"fill":      fill,
			"occupy":    occupy,
			"certify":   certify,
			"serve":     serve,
			"trained":   trained.copy,
		},
	})
}

// runtimePath is where this machine has ONNX Runtime, "" if it can have none.
func runtimePath(t *testing.T) string {
	if !ort.Enabled {
		return ""
	}
	// Test processes of other packages may be obtaining it, too: Obtain waits.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	lib, err := library.Obtain(ctx, newApp(nil, nil, nil, os.LookupEnv).libraryOptions(), os.Stderr)
	if err != nil {
		t.Logf("scripts that run models are skipped: %v", err)
		return ""
	}
	return lib.Path
}

// minilm is the folder of the shared MiniLM, "" where there is none.
func minilm() string {
	dir, err := filepath.Abs("../../../shared/data/models/all-minilm-l6-v2")
	if err != nil {
		return ""
	}
	if _, err := os.Stat(filepath.Join(dir, "model.onnx")); err != nil {
		return ""
	}
	return dir
}

// exits CODE PROGRAM ARG…: the program ends with this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// json PATH [VALUE]: the JSON document on stdout has a field at the dotted
// path, with the value, written as JSON or as plain text.
func jsonField(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: json PATH [VALUE]")
	}
	var at any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &at))
	found := true
	for _, name := range strings.Split(args[0], ".") {
		switch v := at.(type) {
		case map[string]any:
			at, found = v[name]
		case []any:
			i, err := strconv.Atoi(name)
			if found = err == nil && i < len(v); found {
				at = v[i]
			}
		default:
			found = false
		}
		if !found {
			break
		}
	}
	if len(args) == 1 || !found {
		if found == neg {
			ts.Fatalf("field %s: found %v", args[0], found)
		}
		return
	}
	got, err := json.Marshal(at)
	ts.Check(err)
	if text, ok := at.(string); ok {
		got = []byte(text)
	}
	if (string(got) == args[1]) == neg {
		ts.Fatalf("%s is %s, want %s", args[0], got, args[1])
	}
}

// job FILE: the variable JOB is the file's field job.
func job(ts *testscript.TestScript, neg bool, args []string) {
	var answer struct {
		Job string `json:"job"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &answer))
	ts.Setenv("JOB", answer.Job)
}

// predicted: the variable PREDICTION is the id of the answer on stdout.
func predicted(ts *testscript.TestScript, neg bool, args []string) {
	var p prediction
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &p))
	ts.Setenv("PREDICTION", p.PredictionID)
}

// fill FILE BYTES [PREFIX]: a file with a text of that many bytes, after the
// prefix, whose escapes are Go's.
func fill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fill FILE BYTES [PREFIX]")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	prefix, err := strconv.Unquote(`"` + strings.Join(args[2:], " ") + `"`)
	ts.Check(err)
	text := strings.Repeat("goal and match ", n/15+1)[:n]
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(prefix+text), 0o600))
}

// occupy NAME: the variable names an address that something listens on.
func occupy(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], l.Addr().String())
}

// serve: a server on the script's home; GALLEY_SERVER, SERVER_HTTP and
// SERVER_PID are its own.
func serve(ts *testscript.TestScript, neg bool, args []string) {
	path, err := exec.LookPath("galley")
	ts.Check(err)
	c := exec.Command(path, "up", "--listen-http", "127.0.0.1:0", "--listen-grpc", "127.0.0.1:0", "--listen-metrics", "127.0.0.1:0")
	for _, name := range []string{"GALLEY_HOME", "GALLEY_ORT_LIB", "XDG_CACHE_HOME", "PATH", "TMPDIR"} {
		c.Env = append(c.Env, name+"="+ts.Getenv(name))
	}
	stderr, err := c.StderrPipe()
	ts.Check(err)
	ts.Check(c.Start())
	lines := bufio.NewScanner(stderr)
	ready := ""
	for ready == "" && lines.Scan() {
		ready, _ = strings.CutPrefix(lines.Text(), "ready ")
		if !strings.HasPrefix(lines.Text(), "ready ") {
			ready = ""
		}
	}
	drained := make(chan error, 1)
	go func() {
		for lines.Scan() { // so that the server never waits for a reader
		}
		drained <- c.Wait()
	}()
	ts.Defer(func() {
		ts.Check(c.Process.Signal(syscall.SIGTERM))
		if err := <-drained; err != nil {
			ts.Fatalf("the server: %v", err)
		}
	})
	for _, field := range strings.Fields(ready) {
		switch name, address, _ := strings.Cut(field, "="); name {
		case "grpc":
			ts.Setenv("GALLEY_SERVER", address)
		case "http":
			ts.Setenv("SERVER_HTTP", address)
		}
	}
	if ready == "" {
		ts.Fatalf("the server did not become ready")
	}
	ts.Setenv("SERVER_PID", strconv.Itoa(c.Process.Pid))
}

// A trainedHome has a dataset and two versions of a tiny model, news@1 and
// news@2, trained once for all scripts.
type trainedHome struct {
	t       *testing.T
	runtime string
	once    sync.Once
	dir     string
	err     error
}

// The rows and the job of the trained home.
const (
	trainedJob = "apiVersion: galley/v1\nkind: Train\nname: news\ntask: text-classification\ndata: {dataset: headlines}\n" +
		"model: {layers: 1, hidden: 16, heads: 2, feed_forward: 32, max_length: 16, ngrams: {orders: 0}}\nrecipe: {max_steps: 2, batch_size: 8}\nresources: {cpus: 1}\n"
	trainedRows = 24
)

func (h *trainedHome) make() {
	h.dir = h.t.TempDir()
	var rows strings.Builder
	rows.WriteString("text,label\n")
	for i := range trainedRows {
		fmt.Fprintf(&rows, "the team won match %d with a late goal,sport\n央行第%d次维持利率不变,money\n", i, i)
	}
	path := func(name string) string { return filepath.Join(h.dir, name) }
	h.err = errors.Join(os.WriteFile(path("rows.csv"), []byte(rows.String()), 0o600), os.WriteFile(path("job.yaml"), []byte(trainedJob), 0o600))
	for _, args := range [][]string{
		{"data", "add", "headlines", "--train", path("rows.csv"), "--test", path("rows.csv")},
		{"train", path("job.yaml")},
		{"train", path("job.yaml"), "--set", "recipe.seed=8"},
	} {
		if h.err != nil {
			return
		}
		c := exec.Command("galley", slices.Concat(args, []string{"--local", "--home", path("home")})...)
		c.Env = append(os.Environ(), "GALLEY_ORT_LIB="+h.runtime)
		if out, err := c.CombinedOutput(); err != nil {
			h.err = fmt.Errorf("%v: %w: %s", args, err, out)
		}
	}
}

// copy puts the home, its rows.csv and its job.yaml into the script's folder.
func (h *trainedHome) copy(ts *testscript.TestScript, neg bool, args []string) {
	h.once.Do(h.make)
	ts.Check(h.err)
	ts.Check(os.CopyFS(ts.MkAbs("."), os.DirFS(h.dir)))
}

package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"galley"
	"galley/trainer"
	"galley/trainer/engine"
	"galley/trainer/launch"
)

// The test binary is its own child: with "attempt" it serves the driver below,
// with "parent" it starts an attempt and waits to be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "attempt":
			os.Exit(Main(engine.Drivers{"onnx": actor{}}))
		case "parent":
			parent(os.Args[2])
		}
	}
	// The race detector would keep each child for a second.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	os.Exit(m.Run())
}

// An actor is an engine that does what its request's job says.
type actor struct{}

func (actor) Name() string    { return "onnx" }
func (actor) Version() string { return "test" }

func (actor) Train(ctx context.Context, r engine.Request, report func(engine.Event)) (engine.Result, error) {
	switch r.Job {
	case "finish":
		fmt.Fprintln(os.Stderr, "a line")
		fmt.Println("on stdout")
		report(engine.Event{Kind: engine.Started, Steps: 2})
		report(engine.Event{Kind: engine.Progress, Step: 1, Steps: 2, Loss: math.NaN(), Metrics: map[string]float64{"f": math.Inf(1), "g": 1}})
		return engine.Result{Bundle: r.WorkDir, Steps: 2, Metrics: map[string]float64{"accuracy": 1, "loss": math.NaN()}}, nil
	case "fail":
		return engine.Result{}, galley.Errorf(galley.FailedPrecondition, "recipe", "the loss is NaN at step 7").WithRemedy("lower the learning rate")
	case "full":
		return engine.Result{}, &os.PathError{Op: "write", Path: "checkpoint", Err: syscall.ENOSPC}
	case "starved":
		return engine.Result{}, galley.Errorf(galley.Internal, "onnx", "Failed to allocate memory for requested buffer of size 1099511627776")
	case "abort":
		fmt.Fprintln(os.Stderr, "terminate called after throwing an instance of 'std::bad_alloc'")
		_ = syscall.Kill(os.Getpid(), syscall.SIGABRT)
		select {}
	case "large": // as Go's runtime ends
		fmt.Fprintln(os.Stderr, "fatal error: runtime: out of memory")
		os.Exit(2)
	case "panic":
		panic("on purpose")
	case "exit":
		fmt.Fprintln(os.Stderr, "something is very wrong")
		os.Exit(3)
	case "segv":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSEGV)
		select {}
	case "home":
		return engine.Result{}, galley.Errorf(galley.Internal, "environment", "%q", os.Getenv("GALLEY_HOME"))
	case "loud":
		fmt.Fprintln(os.Stderr, strings.Repeat("x", 1<<20))
		fmt.Fprintln(os.Stderr, "bad \xff bytes")
		return engine.Result{}, nil
	case "wide":
		report(engine.Event{Kind: engine.Note, Message: strings.Repeat("x", 1<<20)})
		return engine.Result{Bundle: strings.Repeat("x", 2<<20)}, nil
	case "talkative":
		for i := range 200 {
			report(engine.Event{Kind: engine.Progress, Step: i + 1, Steps: 200})
		}
		return engine.Result{Steps: 200}, nil
	case "stubborn":
		report(engine.Event{Kind: engine.Started})
		select {}
	case "orphan": // leaves a process behind that holds the pipes
		cmd := exec.Command("sleep", "60")
		cmd.Stderr, cmd.Stdout = os.Stderr, os.Stdout
		if err := cmd.Start(); err != nil {
			return engine.Result{}, err
		}
		report(engine.Event{Kind: engine.Note, Message: strconv.Itoa(cmd.Process.Pid)})
		return engine.Result{}, nil
	}
	report(engine.Event{Kind: engine.Started, Message: strconv.Itoa(os.Getpid())})
	<-ctx.Done()
	return engine.Result{}, ctx.Err()
}

func launcher() Launcher { return Launcher{Args: []string{"attempt"}} }

func request(t testing.TB, job string) engine.Request {
	return engine.Request{Job: job, Attempt: 1, Spec: trainer.Spec{Engine: "onnx"}, WorkDir: t.TempDir()}
}

// collect receives all reports.
func collect(a launch.Attempt) (events []engine.Event, lines []string, o launch.Outcome) {
	for r := range a.Reports() {
		if r.Event != nil {
			events = append(events, *r.Event)
		} else {
			lines = append(lines, r.Line)
		}
	}
	return events, lines, a.Wait()
}

func start(t *testing.T, l Launcher, job string) launch.Attempt {
	t.Helper()
	a, err := l.Start(context.Background(), request(t, job))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Kill)
	return a
}

func TestFinish(t *testing.T) {
	events, lines, o := collect(start(t, launcher(), "finish"))
	if o.Ending != launch.Finished || o.Result.Steps != 2 || o.Err != nil {
		t.Errorf("%+v", o)
	}
	if len(o.Result.Metrics) != 1 || o.Result.Metrics["accuracy"] != 1 {
		t.Errorf("metrics %v: values that are not finite are left out", o.Result.Metrics)
	}
	if len(events) != 2 || events[1].Loss != 0 || len(events[1].Metrics) != 1 {
		t.Errorf("events %+v", events)
	}
	if strings.Join(lines, "|") != "a line|on stdout" {
		t.Errorf("lines %q", lines)
	}
}

// Whoever stores reports may be slow: what an attempt said before it exited is
// heard to the end.
func TestSlowListener(t *testing.T) {
	a, events := start(t, launcher(), "talkative"), 0
	for r := range a.Reports() {
		if r.Event != nil {
			events++
			time.Sleep((linger + time.Second) / 200)
		}
	}
	if o := a.Wait(); o.Ending != launch.Finished || o.Result.Steps != 200 || events != 200 {
		t.Errorf("%d events, %+v", events, o)
	}
}

func TestEndings(t *testing.T) {
	for _, c := range []struct {
		job    string
		ending launch.Ending
		code   galley.Code
		text   string
		cause  trainer.Cause
	}{
		{"fail", launch.Failed, galley.FailedPrecondition, "recipe: the loss is NaN at step 7 — lower the learning rate", ""},
		{"full", launch.Failed, galley.ResourceExhausted, "the disk is full: write checkpoint: no space left on device — make room, then resume the job: its last checkpoint is kept", ""},
		{"panic", launch.Failed, galley.Internal, "engine onnx: failed in itself: on purpose", ""},
		{"exit", launch.Crashed, galley.Internal, "its process ended without a result (exit status 3); its last words: something is very wrong", trainer.Died},
		{"segv", launch.Crashed, galley.Internal, "its process ended without a result (exit status 2); its last words: SIGSEGV: segmentation violation", trainer.Died},
		// The child itself refuses to write so long a result.
		{"wide", launch.Crashed, galley.Internal, "message: of the attempt has 2097", trainer.Died},
		{"starved", launch.Crashed, galley.ResourceExhausted, "it ran out of memory: Failed to allocate memory for requested buffer", trainer.OutOfMemory},
		{"abort", launch.Crashed, galley.ResourceExhausted, "it ran out of memory: terminate called after throwing an instance of 'std::bad_alloc'", trainer.OutOfMemory},
		{"large", launch.Crashed, galley.ResourceExhausted, "it ran out of memory: fatal error: runtime: out of memory", trainer.OutOfMemory},
	} {
		t.Run(c.job, func(t *testing.T) {
			_, _, o := collect(start(t, launcher(), c.job))
			if o.Ending != c.ending || o.Cause != c.cause || galley.CodeOf(o.Err) != c.code || !strings.Contains(o.Err.Error(), c.text) {
				t.Errorf("%v %q %v", o.Ending, o.Cause, o.Err)
			}
		})
	}
}

func TestStop(t *testing.T) {
	a := start(t, launcher(), "wait")
	<-a.Reports()
	a.Stop()
	a.Stop()
	if _, _, o := collect(a); o.Ending != launch.Stopped {
		t.Errorf("%+v", o)
	}
	a.Kill() // of one that has ended

	a = start(t, launcher(), "wait") // maybe before it listens
	a.Stop()
	if _, _, o := collect(a); o.Ending != launch.Stopped {
		t.Errorf("stopped early: %+v", o)
	}
}

func TestStopStubborn(t *testing.T) {
	l := launcher()
	l.Grace = 50 * time.Millisecond
	a := start(t, l, "stubborn")
	<-a.Reports()
	a.Stop()
	if _, _, o := collect(a); o.Ending != launch.Crashed || !strings.Contains(o.Err.Error(), "killed by the server") {
		t.Errorf("%+v", o)
	}
}

func TestKilledFromOutside(t *testing.T) {
	a := start(t, launcher(), "wait")
	pid, _ := strconv.Atoi((<-a.Reports()).Event.Message)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, _, o := collect(a); o.Ending != launch.Crashed || o.Cause != trainer.Killed {
		t.Errorf("%+v", o)
	}
}

func TestContextKills(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	a, err := launcher().Start(ctx, request(t, "wait"))
	if err != nil {
		t.Fatal(err)
	}
	<-a.Reports()
	cancel()
	if _, _, o := collect(a); o.Ending != launch.Crashed {
		t.Errorf("%+v", o)
	}
}

func TestNoProgram(t *testing.T) {
	_, err := Launcher{Path: filepath.Join(t.TempDir(), "none")}.Start(context.Background(), request(t, "finish"))
	if galley.CodeOf(err) != galley.Unavailable {
		t.Error(err)
	}
}

func TestHomeIsHidden(t *testing.T) {
	t.Setenv("GALLEY_HOME", "/secret")
	if _, _, o := collect(start(t, launcher(), "home")); o.Err == nil || !strings.Contains(o.Err.Message, `""`) {
		t.Errorf("%+v", o)
	}
}

func TestLongLines(t *testing.T) {
	_, lines, o := collect(start(t, launcher(), "loud"))
	if o.Ending != launch.Finished || len(lines) != 2 || len(lines[0]) != maxLine || lines[1] != "bad \uFFFD bytes" {
		t.Errorf("%d lines, %+v", len(lines), o)
	}
}

func TestOrphansAreKilled(t *testing.T) {
	a := start(t, launcher(), "orphan")
	events, _, o := collect(a)
	if o.Ending != launch.Finished {
		t.Fatalf("%+v", o)
	}
	pid, _ := strconv.Atoi(events[0].Message)
	waitGone(t, pid)
}

// Two attempts of a job never run at once.
func TestLock(t *testing.T) {
	r := request(t, "wait")
	first, err := launcher().Start(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	<-first.Reports()
	r.Job = "finish"
	second, err := launcher().Start(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-second.Reports():
		t.Error("the second attempt began while the first ran")
	case <-time.After(200 * time.Millisecond):
	}
	first.Kill()
	if _, _, o := collect(second); o.Ending != launch.Finished {
		t.Errorf("%+v", o)
	}
	first.Wait()
}

// parent starts an attempt in dir, prints the child's pid and sleeps.
func parent(dir string) {
	a, err := launcher().Start(context.Background(), engine.Request{Job: "stubborn2", Spec: trainer.Spec{Engine: "onnx"}, WorkDir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println((<-a.Reports()).Event.Message)
	select {}
}

func TestChildDiesWithParent(t *testing.T) {
	cmd := exec.Command(os.Args[0], "parent", t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscanln(out, &pid); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	waitGone(t, pid)
}

func waitGone(t *testing.T, pid int) {
	t.Helper()
	for range 500 {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || zombie(pid) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d is still there", pid)
}

// zombie reports whether a dead process waits for init to collect it.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// Serve answers a request that it cannot read with an error.
func TestServeBadRequest(t *testing.T) {
	for _, in := range []string{"", "{", "nothing", `{"spec":{"engine":"none"}}`} {
		var out bytes.Buffer
		r, w := io.Pipe() // stays open, as a parent's does
		go func() {
			_, _ = w.Write([]byte(in))
			if in != `{"spec":{"engine":"none"}}` {
				w.Close()
			}
		}()
		if err := Serve(context.Background(), engine.Drivers{}, r, &out); err != nil {
			t.Fatal(err)
		}
		var m message
		if err := json.Unmarshal(out.Bytes(), &m); err != nil || m.Error == nil {
			t.Errorf("%q: %s", in, out.String())
		}
	}
}

// An attempt that has nothing to say still says that it lives.
func TestHeartbeat(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a heartbeat")
	}
	a := start(t, launcher(), "wait")
	<-a.Reports()
	select {
	case r := <-a.Reports():
		if r.Event != nil || r.Line != "" {
			t.Errorf("%+v", r)
		}
	case <-time.After(3 * launch.Heartbeat):
		t.Error("no sign of life")
	}
}

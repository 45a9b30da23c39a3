package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	newsroompb "galley/api/newsroom/v1"
)

func init() {
	programs["overload-callers"] = callTooMuch
	programs["overload-prober"] = probeRefusals
}

// refusals are what a caller saw of a server that has more to do than may wait.
type refusals struct {
	Took     []time.Duration
	Admitted int
	Hintless []string // those that did not say when to try again
	Ordinary string   // why the prober had no priority
}

// A server that has more to do than may wait refuses a request within 5 ms, and
// says when to try again. The callers are at work on the same processors, and
// other tests: that is held of half of the refusals here, and of 99 in 100 by
// TestBenchRefusals.
func TestOverloadedServerRefusesAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a server under load for seconds")
	}
	seen := overload(t, 5*time.Second, false)
	half := percentile(seen.Took, .5)
	t.Logf("%d refused, %d admitted; refusals: p50 %v, p90 %v, p99 %v", len(seen.Took), seen.Admitted, half, percentile(seen.Took, .9), percentile(seen.Took, .99))
	if half > 5*time.Millisecond {
		t.Errorf("half of the refusals take %v", half)
	}
}

// overload has a server refuse for a time, and returns how: 1,280 callers on 16
// connections, which do not wait as long as it asks, and a prober on 8 more. A
// prober that goes first sees what one on a machine of its own would.
func overload(t *testing.T, during time.Duration, first bool) refusals {
	t.Helper()
	h := &trainedHome{t: t, runtime: runtimePath(t)}
	if h.runtime == "" {
		t.Skip("ONNX Runtime is not here")
	}
	if h.make(); h.err != nil {
		t.Fatal(h.err)
	}
	large := exec.Command("galley", "train", filepath.Join(h.dir, "job.yaml"), "--local", "--home", filepath.Join(h.dir, "home"), "--set", "name=slow",
		"--set", "model.layers=4", "--set", "model.hidden=128", "--set", "model.feed_forward=512", "--set", "model.max_length=64")
	large.Env = append(os.Environ(), "GALLEY_ORT_LIB="+h.runtime)
	if out, err := large.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := startServer(t, h)
	callers := exec.Command("overload-callers", s.address)
	callers.Stderr = os.Stderr
	until, err := callers.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := callers.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		until.Close()
		if err := callers.Wait(); err != nil {
			t.Error(err)
		}
	}()
	time.Sleep(2 * time.Second) // until the queue is full
	prober := exec.Command("overload-prober", s.address, during.String(), strconv.FormatBool(first))
	prober.Stderr = os.Stderr
	out, err := prober.Output()
	if err != nil {
		t.Fatal(err)
	}
	var seen refusals
	if err := json.Unmarshal(out, &seen); err != nil {
		t.Fatal(err)
	}
	if len(seen.Took) < 100 {
		t.Fatalf("%d requests are refused and %d admitted: that is no overload", len(seen.Took), seen.Admitted)
	}
	if len(seen.Hintless) > 0 {
		t.Errorf("%d refusals do not say when to try again: %s", len(seen.Hintless), seen.Hintless[0])
	}
	return seen
}

// overloading is the request that all send.
var overloading = &newsroompb.ClassifyRequest{Model: "slow", Version: "1", Text: strings.Repeat("the team won match 12 with a late goal ", 8)}

// hurry is less than a refusal asks to wait: some always knock.
const hurry = 100 * time.Millisecond

// callTooMuch is the program of the callers: it ends with its input.
func callTooMuch() {
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	var work sync.WaitGroup
	for range 16 {
		client := newsroomAt(os.Args[1])
		for range 80 { // together more than may wait
			work.Go(func() {
				for ctx.Err() == nil {
					if _, err := client.Classify(ctx, overloading); err != nil {
						wait, _ := retryAfter(err)
						time.Sleep(min(wait, hurry))
					}
				}
			})
		}
	}
	work.Wait()
}

// probeRefusals is the program of the prober, which prints what it saw.
func probeRefusals() {
	during, err := time.ParseDuration(os.Args[2])
	if err != nil {
		panic(err)
	}
	var seen refusals
	if os.Args[3] == "true" {
		if err := goFirst(); err != nil {
			seen.Ordinary = err.Error()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), during)
	defer cancel()
	var mu sync.Mutex
	var work sync.WaitGroup
	for range 8 {
		client := newsroomAt(os.Args[1])
		work.Go(func() {
			for ctx.Err() == nil {
				short, cancel := context.WithTimeout(ctx, hurry)
				began := time.Now()
				_, err := client.Classify(short, overloading)
				took := time.Since(began)
				cancel()
				mu.Lock()
				if code := status.Code(err); code == codes.OK || code == codes.DeadlineExceeded {
					seen.Admitted++
				} else {
					seen.Took = append(seen.Took, took)
					if wait, err := retryAfter(err); wait <= 0 || err != nil {
						seen.Hintless = append(seen.Hintless, fmt.Sprint(err))
					}
				}
				mu.Unlock()
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	work.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(seen); err != nil {
		panic(err)
	}
}

// goFirst has this process's threads, and those that they make, run as soon as
// they are ready.
func goFirst() error {
	threads, err := os.ReadDir("/proc/self/task")
	for _, thread := range threads {
		id, _ := strconv.Atoi(thread.Name())
		err = errors.Join(err, unix.SchedSetAttr(id, &unix.SchedAttr{Size: 48, Policy: unix.SCHED_FIFO, Priority: 1}, 0))
	}
	return err
}

func newsroomAt(address string) newsroompb.NewsroomClient {
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		panic(err)
	}
	return newsroompb.NewNewsroomClient(c)
}

// retryAfter is when to try again after a refusal for want of room; an error if
// it is another.
func retryAfter(refusal error) (time.Duration, error) {
	of := status.Convert(refusal)
	if of.Code() != codes.ResourceExhausted {
		return 0, refusal
	}
	for _, d := range of.Details() {
		if retry, ok := d.(*errdetails.RetryInfo); ok {
			return retry.GetRetryDelay().AsDuration(), nil
		}
	}
	return 0, nil
}

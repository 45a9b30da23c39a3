package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	newsroompb "galley/api/newsroom/v1"
)

// A server that has more to do than may wait refuses a request within 5 ms, and
// says when to try again. Its processors are at work meanwhile, for the clients,
// too: that is held of half of the refusals, and the slower ones are logged.
func TestOverloadedServerRefusesAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a server under load for seconds")
	}
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
	request := &newsroompb.ClassifyRequest{Model: "slow", Version: "1", Text: strings.Repeat("the team won match 12 with a late goal ", 8)}
	const patience = 100 * time.Millisecond // less than the server asks for: some always knock
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for range 16 {
		client := newsroompb.NewNewsroomClient(dialServer(t, s))
		for range 80 { // together more than may wait
			work.Go(func() {
				for ctx.Err() == nil {
					if _, err := client.Classify(ctx, request); err != nil && ctx.Err() == nil {
						time.Sleep(min(retryAfter(t, err), patience))
					}
				}
			})
		}
	}
	client := newsroompb.NewNewsroomClient(dialServer(t, s))
	var refused []time.Duration
	admitted := 0
	for end := time.Now().Add(30 * time.Second); len(refused) < 300 && time.Now().Before(end); {
		short, cancel := context.WithTimeout(ctx, patience)
		began := time.Now()
		_, err := client.Classify(short, request)
		took := time.Since(began)
		cancel()
		if code := status.Code(err); code == codes.OK || code == codes.DeadlineExceeded {
			admitted++
			continue
		}
		if retryAfter(t, err) <= 0 {
			t.Errorf("refused without a word of when to try again: %v", err)
		}
		refused = append(refused, took)
		time.Sleep(5 * time.Millisecond)
	}
	stop()
	work.Wait()
	if len(refused) < 100 {
		t.Fatalf("%d requests are refused and %d admitted: that is no overload", len(refused), admitted)
	}
	half, most := percentile(refused, .5), percentile(refused, .9)
	t.Logf("%d refused, %d admitted; refusals: p50 %v, p90 %v, p99 %v", len(refused), admitted, half, most, percentile(refused, .99))
	if half > 5*time.Millisecond {
		t.Errorf("half of the refusals take %v", half)
	}
}

// retryAfter is when to try again after a refusal for want of room.
func retryAfter(t *testing.T, err error) time.Duration {
	of := status.Convert(err)
	if of.Code() != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
	for _, d := range of.Details() {
		if retry, ok := d.(*errdetails.RetryInfo); ok {
			return retry.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

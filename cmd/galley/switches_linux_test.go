package main

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	controlpb "galley/api/control/v1"
	newsroompb "galley/api/newsroom/v1"
)

// callers is how many applications send at a time, each on its own connection.
const callers = 16

// A switching is a server under load whose alias prod moves.
type switching struct {
	*testing.T
	control controlpb.ControlClient
	clients []newsroompb.NewsroomClient

	live         []string // the version after so many moves
	begun, ended atomic.Int64
}

// With 16 callers sending, 100 promotions and as many rollbacks: no request
// fails, each is answered by a version that was live while it was asked, and the
// 99th percentile is at most three times that of quiet moments in between.
func TestSwitchesUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a server under load for ten seconds")
	}
	h := &trainedHome{t: t, runtime: runtimePath(t)}
	if h.runtime == "" {
		t.Skip("ONNX Runtime is not here")
	}
	if h.make(); h.err != nil {
		t.Fatal(h.err)
	}
	s := startServer(t, h)
	k := &switching{T: t, control: controlpb.NewControlClient(dialServer(t, s)), live: []string{"news@1"}}
	for range callers {
		k.clients = append(k.clients, newsroompb.NewNewsroomClient(dialServer(t, s)))
	}
	promote := func(ref string) error {
		_, err := k.control.Promote(t.Context(), &controlpb.PromoteRequest{Ref: ref, Alias: "prod", Force: true, Reason: "a test of switches"})
		return err
	}
	for _, ref := range []string{"news@2", "news@1"} { // both are warm, as after any first day
		if err := promote(ref); err != nil {
			t.Fatal(err)
		}
	}
	// Quiet moments and moments with switches take turns: what else this machine
	// does is the same for both.
	const turns, pairs, pause = 10, 10, 20 * time.Millisecond
	var quiet, moving []time.Duration
	k.load(func() { time.Sleep(300 * time.Millisecond) })
	for range turns {
		quiet = append(quiet, k.load(func() { time.Sleep(2 * pairs * pause) })...)
		moving = append(moving, k.load(func() {
			for range pairs {
				k.move("news@2", promote)
				time.Sleep(pause)
				k.move("news@1", func(string) error {
					_, err := k.control.Rollback(t.Context(), &controlpb.RollbackRequest{Name: "news"})
					return err
				})
				time.Sleep(pause)
			}
		})...)
	}
	was, is := percentile(quiet, .99), percentile(moving, .99)
	t.Logf("%d promotions and as many rollbacks under %d callers: %d requests with a p50 of %v and a p99 of %v; %d quiet ones: %v, %v; p99 %.2fx",
		turns*pairs, callers, len(moving), percentile(moving, .5), is, len(quiet), percentile(quiet, .5), was, float64(is)/float64(was))
	if is > 3*was {
		t.Errorf("the p99 is %v with switches and %v without", is, was)
	}
}

// move makes another version live.
func (k *switching) move(to string, do func(ref string) error) {
	k.live = append(k.live, to) // before begun says that it is there
	k.begun.Add(1)
	if err := do(to); err != nil {
		k.Errorf("to %s: %v", to, err)
	}
	k.ended.Add(1)
}

// load has all callers send while during runs, and returns what their requests
// took.
func (k *switching) load(during func()) []time.Duration {
	type answer struct {
		took     time.Duration
		model    string
		from, to int64
	}
	answers := make([][]answer, len(k.clients))
	stop := make(chan struct{})
	var senders sync.WaitGroup
	for i, client := range k.clients {
		senders.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				from, began := k.ended.Load(), time.Now()
				reply, err := client.Classify(k.Context(), &newsroompb.ClassifyRequest{Model: "news", Text: fmt.Sprintf("the team won match %d", n)})
				if err != nil {
					k.Errorf("a request failed: %v", err)
					return
				}
				answers[i] = append(answers[i], answer{time.Since(began), reply.GetModel(), from, k.begun.Load()})
			}
		})
	}
	during()
	close(stop)
	senders.Wait()
	var took []time.Duration
	for _, a := range slices.Concat(answers...) {
		took = append(took, a.took)
		// When it was sent, the moves up to from were over; when it was answered,
		// those up to to had begun.
		if may := k.live[a.from : a.to+1]; !slices.Contains(may, a.model) {
			k.Errorf("%s answers, want one of %v", a.model, may)
		}
	}
	return took
}

// dialServer connects to a server's gRPC port until the test ends.
func dialServer(t *testing.T, s *server) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// percentile sorts what requests took and returns the least that so large a part
// of them did not exceed.
func percentile(took []time.Duration, part float64) time.Duration {
	slices.Sort(took)
	return took[min(int(part*float64(len(took))), len(took)-1)]
}

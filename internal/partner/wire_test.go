package partner

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/trainer"
	"galley/trainer/launch"
)

// A reader reads along, in plain text, what an agent sends: each message, with
// fields that nobody knows, and each header.
type reader struct {
	mu      sync.Mutex
	text    bytes.Buffer
	methods map[string]int
	headers map[string]bool
	kinds   map[string]int
	updates int // bytes of updates
}

func (r *reader) TagRPC(ctx context.Context, i *stats.RPCTagInfo) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.methods[i.FullMethodName]++
	return ctx
}

func (r *reader) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (r *reader) HandleConn(context.Context, stats.ConnStats)                       {}

func (r *reader) HandleRPC(_ context.Context, s stats.RPCStats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch s := s.(type) {
	case *stats.OutHeader:
		for name, values := range s.Header {
			r.headers[name] = true
			fmt.Fprintln(&r.text, name, values)
		}
	case *stats.OutPayload:
		m := s.Payload.(proto.Message)
		r.kinds[string(m.ProtoReflect().Descriptor().Name())]++
		data, err := proto.Marshal(m)
		if err != nil {
			panic(err)
		}
		r.text.Write(data)
		if u, ok := m.(*federationpb.UploadRequest); ok {
			r.updates += len(u.GetData())
		}
	}
}

// What an agent sends over a whole life, rounds that fail in all ways among it,
// has nothing of a row, a label that the model does not know, a file or a folder.
func TestOnlyWhatWasAgreedLeaves(t *testing.T) {
	r := &reader{methods: map[string]int{}, headers: map[string]bool{}, kinds: map[string]int{}}
	c := newCoordinator(t, nil)
	dir := t.TempDir()
	a := &side{
		t: t, c: c, name: "harbour", dir: filepath.Join(dir, "quillwort-home"), double: &trainingDouble{}, log: &journal{},
		dial: []grpc.DialOption{grpc.WithStatsHandler(r)}, now: time.Now,
	}
	rows := "text,label\nzephyrine goal at the 珊瑚礁,sport\nmarmoset bank rates,money\nmarmoset bank rates again,money\nzephyrine rain,thunderstorm\n"
	a.rows = write(t, dir, "quillwort-rows.csv", []byte(rows))
	var err error
	if a.identity, _, err = Keygen(a.dir, "harbour", 30, a.now()); err != nil {
		t.Fatal(err)
	}
	c.enrol(a.identity)
	if err := a.join(); err != nil {
		t.Fatal(err)
	}
	secret := galley.Errorf(galley.InvalidArgument, "zephyrine", "marmoset at quillwort-rows.csv:3: %q", "thunderstorm").WithRemedy("look at 珊瑚礁")
	outcomes := []launch.Outcome{
		{}, // a model
		{Ending: launch.Failed, Err: secret},
		{Ending: launch.Crashed, Cause: trainer.OutOfMemory, Err: secret},
	}
	training := 0
	a.double.outcome = func(int) launch.Outcome { return outcomes[training] }
	stop := a.serve(nil)
	attempt := 0
	offer := func(change func(*federationpb.Offer)) {
		attempt++
		o := c.honest("harbour", 1, attempt)
		if change != nil {
			change(o)
		}
		before := stateOf(c, func() int { return len(c.declined) + len(c.headers) })
		c.offer("harbour", o)
		c.waitFor("an answer", func() bool { return len(c.declined)+len(c.headers) > before })
	}
	for training = range outcomes {
		offer(nil)
	}
	training = 0
	offer(func(o *federationpb.Offer) { o.Purpose = "which texts do you have" })
	offer(func(o *federationpb.Offer) { o.Recipe = []byte(`{"rows":true}`) })
	offer(func(o *federationpb.Offer) { o.Metrics = []string{"texts"} })
	if err := os.WriteFile(a.rows, []byte("text,label\nzephyrine,thunderstorm\nmarmoset,hail\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	offer(nil) // no row has a label of the model
	if err := os.Remove(a.rows); err != nil {
		t.Fatal(err)
	}
	offer(nil)
	write(t, dir, "quillwort-rows.csv", []byte(rows))
	c.mu.Lock()
	c.upload = func() error { return status.Error(codes.PermissionDenied, "no") }
	c.mu.Unlock()
	c.offer("harbour", c.honest("harbour", 1, attempt+1))
	a.log.has(t, "it is kept, and sent again when the coordinator asks")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if len(c.headers) != 1 || len(c.declined) != 7 {
		t.Fatalf("%d updates, %d refusals", len(c.headers), len(c.declined))
	}
	sent := strings.ToLower(r.text.String())
	for _, word := range []string{"zephyrine", "marmoset", "珊瑚礁", "thunderstorm", "hail", "quillwort", "rates", ".csv", strings.ToLower(dir), "sport"} {
		if strings.Contains(sent, word) {
			t.Errorf("%q left", word)
		}
	}
	if !strings.Contains(sent, "topics of headlines") || r.updates < int(c.layout.EncodedSize()) {
		t.Error("nothing was read along")
	}
	service := "/" + federationpb.Partners_ServiceDesc.ServiceName + "/"
	for method := range r.methods {
		if !strings.HasPrefix(method, service) {
			t.Errorf("%s was called", method)
		}
	}
	// What gRPC itself says, and galley adds nothing.
	if names := slices.Sorted(maps.Keys(r.headers)); !slices.Equal(names, []string{"user-agent"}) && len(names) != 0 {
		t.Errorf("headers %v", names)
	}
	want := []string{"AttendRequest", "DeclineRequest", "FetchModelRequest", "FetchWeightsRequest", "HelloRequest", "JoinRequest", "UploadRequest"}
	if kinds := slices.Sorted(maps.Keys(r.kinds)); !slices.Equal(kinds, want) {
		t.Errorf("messages %v", kinds)
	}
	for _, d := range c.declined {
		if len(d.GetWhy()) > maxWhy+8 {
			t.Errorf("%d bytes of words", len(d.GetWhy()))
		}
	}
	var metrics []string
	for _, h := range c.headers {
		metrics = append(metrics, slices.Collect(maps.Keys(h.Metrics))...)
		if h.Rows > 3 {
			t.Errorf("%d rows", h.Rows)
		}
	}
	if !slices.Equal(metrics, []string{"loss"}) {
		t.Errorf("%v", metrics)
	}
}

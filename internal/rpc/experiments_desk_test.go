package rpc

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/structpb"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"
	newsroompb "galley/api/newsroom/v1"

	"galley/internal/blob"
	"galley/internal/control"
	"galley/internal/store/sqlite"
	"galley/internal/store/storetest"
	"galley/onnx/session"
	"galley/registry"
	"galley/serving"
)

// A desk is a server with versions of news: 1 to 4 classify, 5 has other
// labels and 6 is a graph without a task.
type desk struct {
	conn        *grpc.ClientConn
	inference   inferencepb.GRPCInferenceServiceClient
	newsroom    newsroompb.NewsroomClient
	experiments controlpb.ExperimentsClient
	control     *control.Control
	server      *Server
	close       func()
	fails       atomic.Bool // version 2 does
}

func openDesk(t *testing.T, home string) *desk {
	t.Helper()
	s, err := sqlite.Open(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{}
	for seed := 1; seed <= 6; seed++ {
		v := storetest.Version("news", seed)
		v.Labels = []string{"sport", "money"}
		if seed == 5 {
			v.Labels = []string{"money", "sport"}
		}
		if _, _, err := s.Register(t.Context(), v); err != nil {
			t.Fatal(err)
		}
	}
	blobs, err := blob.Open(filepath.Join(home, "blobs"), blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var closed atomic.Int32
	table := serving.NewTable(s, func(_ context.Context, v registry.Version) (*serving.Servable, error) {
		g := &graph{closed: &closed}
		if v.Number == 6 {
			g.build("pair")
			return serving.NewGraph(v, g), nil
		}
		servable, err := classifier(t, v, g)
		if v.Number == 2 {
			right := g.run
			g.run = func(in map[string]*session.Tensor) (map[string]*session.Tensor, error) {
				if d.fails.Load() {
					return nil, errors.New("broken")
				}
				return right(in)
			}
		}
		return servable, err
	})
	d.control, err = control.Open(t.Context(), control.Options{
		Home: home, Store: s, Blobs: blobs, Launcher: refuser{}, Logger: quiet(),
		Switch: func(ctx context.Context, c registry.Change) error {
			if c.Alias != registry.Prod {
				return nil
			}
			return table.Follow(ctx, c.Model)
		},
		Forget:  table.Forget,
		Traffic: control.Traffic{Route: table.SetRoute, Signature: table.Signature},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		d.control.Run(ctx)
	}()
	inference := &Inference{Table: table, Store: s, Name: "galley", Version: "test", Signer: d.control.Signer()}
	d.server = NewServer(inference, NewControl(d.control), quiet())
	controlpb.RegisterExperimentsServer(d.server, NewExperiments(d.control))
	controlpb.RegisterAuditServer(d.server, NewAudit(d.control))
	newsroompb.RegisterNewsroomServer(d.server, NewNewsroom(inference, d.control))
	listener := bufconn.Listen(1 << 20)
	go d.server.Serve(listener)
	d.conn, err = grpc.NewClient("passthrough:desk", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	d.inference = inferencepb.NewGRPCInferenceServiceClient(d.conn)
	d.newsroom, d.experiments = newsroompb.NewNewsroomClient(d.conn), controlpb.NewExperimentsClient(d.conn)
	d.close = func() {
		d.conn.Close()
		d.server.grpc.Stop()
		stop()
		<-ran
		if err := errors.Join(d.control.Close(context.Background()), s.Close()); err != nil {
			t.Error(err)
		}
		table.Close()
	}
	return d
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := openDesk(t, t.TempDir())
	t.Cleanup(func() { d.close() })
	return d
}

// start begins an experiment of versions 1 and 2, half and half.
func (d *desk) start(t *testing.T, change ...func(*controlpb.StartExperimentRequest)) *controlpb.Experiment {
	t.Helper()
	r := &controlpb.StartExperimentRequest{Experiment: "test", Control: "news@1", Treatment: "news@2", Split: "50/50", Metric: "accuracy"}
	for _, f := range change {
		f(r)
	}
	e, err := d.experiments.StartExperiment(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// classify asks news as a reader, and returns which version answered, and the
// answer's id.
func (d *desk) classify(t *testing.T, key string) (model, id string) {
	t.Helper()
	a, err := d.newsroom.Classify(t.Context(), &newsroompb.ClassifyRequest{Model: "news", Text: "sport", RequestKey: key})
	if err != nil {
		t.Fatal(err)
	}
	return a.GetModel(), a.GetPredictionId()
}

func (d *desk) feedback(t *testing.T, id string, outcome any) *newsroompb.FeedbackResponse {
	t.Helper()
	r, err := d.send(t.Context(), id, outcome)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (d *desk) send(ctx context.Context, id string, outcome any) (*newsroompb.FeedbackResponse, error) {
	v, err := structpb.NewValue(outcome)
	if err != nil {
		return nil, err
	}
	return d.newsroom.Feedback(ctx, &newsroompb.FeedbackRequest{PredictionId: id, Outcome: v})
}

func (d *desk) show(t *testing.T) *controlpb.Experiment {
	t.Helper()
	e, err := d.experiments.GetExperiment(t.Context(), &controlpb.ExperimentRequest{Experiment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// lastAudit is the newest entry of the audit log with an action.
func (d *desk) lastAudit(t *testing.T, action string) *controlpb.AuditEntry {
	t.Helper()
	stream, err := controlpb.NewAuditClient(d.conn).ListEntries(t.Context(), &controlpb.ListAuditEntriesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var last *controlpb.AuditEntry
	for {
		e, err := stream.Recv()
		if err != nil {
			break
		}
		if e.GetAction() == action {
			last = e
		}
	}
	return last
}

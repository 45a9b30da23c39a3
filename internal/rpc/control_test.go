package rpc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"

	"galley"
	"galley/internal/blob"
	"galley/internal/control"
	"galley/internal/store/sqlite"
	"galley/onnx"
	"galley/trainer/engine"
	"galley/trainer/launch"
)

// A refuser is an engine whose attempts all end with the same error.
type refuser struct{}

func (refuser) Name() string    { return "onnx" }
func (refuser) Version() string { return "refuser 1" }
func (refuser) Train(context.Context, engine.Request, func(engine.Event)) (engine.Result, error) {
	return engine.Result{}, nil
}

// Start implements launch.Launcher in this process.
func (refuser) Start(context.Context, engine.Request) (launch.Attempt, error) { return refused{}, nil }

type refused struct{}

func (refused) Reports() <-chan launch.Report {
	reports := make(chan launch.Report, 2)
	reports <- launch.Report{Line: "a line of the log"}
	reports <- launch.Report{Event: &engine.Event{Kind: engine.Progress, Step: 3, Steps: 10, Loss: 0.5}}
	close(reports)
	return reports
}
func (refused) Stop() {}
func (refused) Kill() {}
func (refused) Wait() launch.Outcome {
	return launch.Outcome{Ending: launch.Failed, Err: galley.Errorf(galley.FailedPrecondition, "recipe", "the loss is NaN at step 3").WithRemedy("lower the rate")}
}

// newClient serves the API over an empty home.
func newClient(t *testing.T) controlpb.ControlClient {
	t.Helper()
	return controlpb.NewControlClient(newConn(t))
}

// newConn connects to a server of the APIs over an empty home.
func newConn(t *testing.T) *grpc.ClientConn {
	t.Helper()
	return newConnTo(t, t.TempDir(), stallTime)
}

// newConnTo does the same of a home, whose backups must be read so fast.
func newConnTo(t *testing.T, home string, unread time.Duration) *grpc.ClientConn {
	t.Helper()
	s, err := sqlite.Open(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.Open(filepath.Join(home, "blobs"), blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	c, err := control.Open(t.Context(), control.Options{
		Home: home, Store: s, Blobs: blobs, Launcher: refuser{}, Drivers: engine.Drivers{"onnx": refuser{}}, CPUs: 2, Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		c.Run(ctx)
	}()
	server := NewServer(inferencepb.UnimplementedGRPCInferenceServiceServer{}, NewControl(c), log)
	controlpb.RegisterAuditServer(server, NewAudit(c))
	controlpb.RegisterMaintenanceServer(server, &Maintenance{control: c, unread: unread})
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		c.Drain()
		server.Shutdown(context.Background())
		<-served
		stop()
		<-ran
		if err := errors.Join(c.Close(context.Background()), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func addData(t *testing.T, c controlpb.ControlClient, h *controlpb.AddDataHeader, pieces ...*controlpb.FilePiece) (*controlpb.Dataset, error) {
	t.Helper()
	stream, err := c.AddData(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if h != nil {
		err = stream.Send(&controlpb.AddDataRequest{Part: &controlpb.AddDataRequest_Header{Header: h}})
	}
	for _, p := range pieces {
		if err == nil {
			err = stream.Send(&controlpb.AddDataRequest{Part: &controlpb.AddDataRequest_Piece{Piece: p}})
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return stream.CloseAndRecv()
}

func piece(name, data string) *controlpb.FilePiece {
	return &controlpb.FilePiece{Name: name, Path: name + ".csv", Data: []byte(data)}
}

const news = "text,label\none,a\ntwo,b\nthree,a\nfour,b\nbroken\n"

func TestControlData(t *testing.T) {
	c := newClient(t)
	header := &controlpb.AddDataHeader{Name: "news", Format: "csv", Seed: 1}
	d, err := addData(t, c, header, piece("train", news[:10]), piece("test", news), piece("train", news[10:]))
	if err != nil {
		t.Fatal(err)
	}
	if d.GetVersion() != 1 || len(d.GetSplits()) < 2 || d.GetRejectedTotal() != 2 || d.GetRejected()[0].GetFile() != "train.csv" || d.GetRejected()[0].GetLine() != 6 {
		t.Errorf("%v", d)
	}
	if again, err := c.GetData(t.Context(), &controlpb.GetDataRequest{Ref: "news@1"}); err != nil || again.GetDigest() != d.GetDigest() {
		t.Errorf("%v %v", again, err)
	}
	if all, err := c.ListData(t.Context(), &controlpb.ListDataRequest{}); err != nil || len(all.GetDatasets()) != 1 {
		t.Errorf("%v %v", all, err)
	}
	for _, x := range []struct {
		name   string
		header *controlpb.AddDataHeader
		pieces []*controlpb.FilePiece
		code   codes.Code
	}{
		{"no header", nil, []*controlpb.FilePiece{piece("train", news)}, codes.InvalidArgument},
		{"nothing", nil, nil, codes.InvalidArgument},
		{"no files", header, nil, codes.InvalidArgument},
		{"bad name", &controlpb.AddDataHeader{Name: "../news", Format: "csv"}, nil, codes.InvalidArgument},
		{"bad format", &controlpb.AddDataHeader{Name: "news", Format: "xls"}, nil, codes.InvalidArgument},
		{"later format", &controlpb.AddDataHeader{Name: "news", Format: "audio"}, nil, codes.Unimplemented},
		{"no label", header, []*controlpb.FilePiece{piece("train", "text\none\n")}, codes.InvalidArgument},
		{"one class", header, []*controlpb.FilePiece{piece("train", "text,label\none,a\ntwo,a\n")}, codes.InvalidArgument},
		{"large piece", header, []*controlpb.FilePiece{piece("train", strings.Repeat("x", maxPiece+1))}, codes.InvalidArgument},
		{"escaping name", header, []*controlpb.FilePiece{piece("../train", news)}, codes.InvalidArgument},
		{"unknown split", header, []*controlpb.FilePiece{piece("train", news), piece("dev", news)}, codes.InvalidArgument},
	} {
		_, err := addData(t, c, x.header, x.pieces...)
		if status.Code(err) != x.code || FromStatus(err).Message == "" {
			t.Errorf("%s: %v", x.name, err)
		}
	}
	if _, err := c.GetData(t.Context(), &controlpb.GetDataRequest{Ref: "none"}); status.Code(err) != codes.NotFound {
		t.Error(err)
	}
}

func TestControlJobs(t *testing.T) {
	c := newClient(t)
	if _, err := addData(t, c, &controlpb.AddDataHeader{Name: "news", Format: "csv"}, piece("train", news)); err != nil {
		t.Fatal(err)
	}
	file := []byte("apiVersion: galley/v1\nkind: Train\nname: topic\ntask: text-classification\ndata: {dataset: news}\n")
	j, err := c.SubmitJob(t.Context(), &controlpb.SubmitJobRequest{JobFile: file, Set: []string{"recipe.seed=7"}})
	if err != nil {
		t.Fatal(err)
	}
	if j.GetKind() != "Train" || j.GetData() != "news@1" || j.GetOwner() != "local" ||
		j.GetSpec().GetFields()["recipe"].GetStructValue().GetFields()["seed"].GetNumberValue() != 7 {
		t.Errorf("%v", j)
	}
	watch, err := c.WatchJob(t.Context(), &controlpb.JobRequest{Job: j.GetJob()})
	if err != nil {
		t.Fatal(err)
	}
	for {
		next, err := watch.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		j = next
	}
	if j.GetPhase() != "failed" || j.GetError().GetMessage() != "the loss is NaN at step 3" || j.GetError().GetRemedy() != "lower the rate" ||
		j.GetProgress().GetStep() != 3 || len(j.GetAttempts()) != 1 {
		t.Errorf("%v", j)
	}
	logs, err := c.JobLogs(t.Context(), &controlpb.JobLogsRequest{Job: j.GetJob(), Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	if line, err := logs.Recv(); err != nil || line.GetSequence() != 1 || line.GetText() != "a line of the log" {
		t.Errorf("%v %v", line, err)
	}
	why, err := c.ExplainJob(t.Context(), &controlpb.JobRequest{Job: j.GetJob()})
	if err != nil || len(why.GetReasons()) != 2 || !strings.Contains(why.GetReasons()[0], "NaN") {
		t.Errorf("%v %v", why, err)
	}
	if all, err := c.ListJobs(t.Context(), &controlpb.ListJobsRequest{Phase: "failed"}); err != nil || len(all.GetJobs()) != 1 {
		t.Errorf("%v %v", all, err)
	}
	if all, err := c.ListJobs(t.Context(), &controlpb.ListJobsRequest{Phase: "queued"}); err != nil || len(all.GetJobs()) != 0 {
		t.Errorf("%v %v", all, err)
	}
	for _, x := range []struct {
		call func() error
		code codes.Code
	}{
		{func() error { _, err := c.GetJob(t.Context(), &controlpb.JobRequest{Job: "none"}); return err }, codes.NotFound},
		{func() error { _, err := c.CancelJob(t.Context(), &controlpb.JobRequest{Job: j.GetJob()}); return err }, codes.FailedPrecondition},
		{func() error { _, err := c.ResumeJob(t.Context(), &controlpb.JobRequest{Job: "\xff"}); return err }, codes.Internal}, // not UTF-8: never sent
		{func() error { _, err := c.ListJobs(t.Context(), &controlpb.ListJobsRequest{Phase: "odd"}); return err }, codes.InvalidArgument},
		{func() error { _, err := c.ListJobs(t.Context(), &controlpb.ListJobsRequest{Limit: -1}); return err }, codes.OutOfRange},
	} {
		if err := x.call(); status.Code(err) != x.code {
			t.Errorf("%v instead of %s", err, x.code)
		}
	}
	_, err = c.SubmitJob(t.Context(), &controlpb.SubmitJobRequest{JobFile: append(file, "recipe: {epoch: 3}\n"...)})
	if e := FromStatus(err); e.Code != galley.InvalidArgument || e.Subject != "job file" ||
		e.Message != `line 6, column 10: recipe.epoch: is not a field here — did you mean "epochs"?` {
		t.Errorf("%+v", e)
	}
}

func TestControlModels(t *testing.T) {
	c := newClient(t)
	g := &onnx.Graph{Name: "identity"}
	b := onnx.NewBuilder(g)
	shape := onnx.Shape{onnx.Symbol("n")}
	b.Output(b.Op("Identity", b.Input("x", onnx.Float, shape)), onnx.Float, shape)
	graph, err := onnx.Marshal(&onnx.Model{IRVersion: 8, Opsets: map[string]int64{"": 17}, Graph: g})
	if err != nil {
		t.Fatal(err)
	}
	upload, err := c.UploadModel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := upload.Send(&controlpb.UploadModelRequest{Piece: &controlpb.FilePiece{Name: "model.onnx", Data: graph}}); err != nil {
		t.Fatal(err)
	}
	uploaded, err := upload.CloseAndRecv()
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.ImportModel(t.Context(), &controlpb.ImportModelRequest{Name: "outside", Digest: uploaded.GetDigest()})
	if err != nil || v.GetRef() != "outside@1" || len(v.GetFiles()) != 1 {
		t.Fatalf("%v %v", v, err)
	}
	list, err := c.ListModels(t.Context(), &controlpb.ListModelsRequest{})
	if err != nil || len(list.GetModels()) != 1 || list.GetModels()[0].GetVersions()[0].GetDigest() != v.GetDigest() {
		t.Errorf("%v %v", list, err)
	}
	zero := int64(0)
	change, err := c.Promote(t.Context(), &controlpb.PromoteRequest{Ref: "outside", Alias: "prod", Expect: &zero})
	if err != nil || change.GetTo() != "outside@1" || change.GetFrom() != "" || change.GetGeneration() != 1 {
		t.Errorf("%v %v", change, err)
	}
	if _, err := c.Promote(t.Context(), &controlpb.PromoteRequest{Ref: "outside@9", Alias: "prod"}); status.Code(err) != codes.NotFound {
		t.Error(err)
	}
	if _, err := c.Rollback(t.Context(), &controlpb.RollbackRequest{Name: "outside"}); status.Code(err) != codes.FailedPrecondition {
		t.Error(err)
	}
	if got, err := c.GetVersion(t.Context(), &controlpb.VersionRequest{Ref: "outside:prod"}); err != nil || got.GetAliases()[0] != "prod" {
		t.Errorf("%v %v", got, err)
	}
	if tree, err := c.Lineage(t.Context(), &controlpb.VersionRequest{Ref: v.GetDigest()}); err != nil || tree.GetLineage().GetFields()["ref"].GetStringValue() != "outside@1" {
		t.Errorf("%v %v", tree, err)
	}
	export, err := c.ExportVersion(t.Context(), &controlpb.VersionRequest{Ref: "outside@1"})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for {
		chunk, err := export.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		files[chunk.GetPath()] += string(chunk.GetData())
	}
	if files["model.onnx"] != string(graph) || !strings.HasPrefix(files["card.md"], "# outside@1\n") {
		t.Errorf("exported %d files", len(files))
	}

	for ref, want := range map[string]codes.Code{"outside@1": codes.FailedPrecondition, "outside": codes.InvalidArgument, "outside@2": codes.NotFound, "Out side": codes.InvalidArgument} {
		if _, err := c.DeleteVersion(t.Context(), &controlpb.VersionRequest{Ref: ref}); status.Code(err) != want {
			t.Errorf("%s: %v", ref, err)
		}
	}
	again, err := c.ImportModel(t.Context(), &controlpb.ImportModelRequest{Name: "spare", Digest: uploaded.GetDigest()})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := c.DeleteVersion(t.Context(), &controlpb.VersionRequest{Ref: again.GetRef()}); err != nil || r.GetRef() != "spare@1" {
		t.Errorf("%v %v", r, err)
	}
}

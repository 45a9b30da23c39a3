package rpc

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlpb "galley/api/control/v1"

	"galley/internal/auth"
	"galley/internal/blob"
	"galley/internal/control"
	"galley/internal/store"
	"galley/internal/store/sqlite"
	"galley/trainer/engine"
)

// Two desks share a server: each changes its own names, reads all, and leaves
// what the house has alone.
func TestTenants(t *testing.T) {
	var c *control.Control
	d := newDoorstepOf(t, true, func(s *sqlite.Store) controlpb.ControlServer {
		home := t.TempDir()
		blobs, err := blob.Open(filepath.Join(home, "blobs"), blob.Options{})
		if err != nil {
			t.Fatal(err)
		}
		c, err = control.Open(t.Context(), control.Options{
			Home: home, Store: s, Blobs: blobs, Launcher: refuser{}, Drivers: engine.Drivers{"onnx": refuser{}}, CPUs: 2, Logger: quiet(),
		})
		if err != nil {
			t.Fatal(err)
		}
		return NewControl(c)
	})
	defer func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	client := controlpb.NewControlClient(d.conn)
	of := func(tenant string) context.Context {
		_, secret, err := d.tokens.Create(t.Context(), "test", control.TokenRequest{Role: auth.Engineer, Name: tenant + "-engineer", Tenant: tenant})
		if err != nil {
			t.Fatal(err)
		}
		return as(t.Context(), secret)
	}
	sports, culture, house := of("sports"), of("culture"), as(t.Context(), d.secrets[auth.Engineer])

	add := func(ctx context.Context, name, row string) error {
		stream, err := client.AddData(ctx)
		if err != nil {
			return err
		}
		rows := "text,label\na late goal " + row + ",sport\nrates hold " + row + ",money\n"
		for _, m := range []*controlpb.AddDataRequest{
			{Part: &controlpb.AddDataRequest_Header{Header: &controlpb.AddDataHeader{Name: name, Format: "csv"}}},
			{Part: &controlpb.AddDataRequest_Piece{Piece: &controlpb.FilePiece{Name: "train", Path: "a.csv", Data: []byte(rows)}}},
			{Part: &controlpb.AddDataRequest_Piece{Piece: &controlpb.FilePiece{Name: "valid", Path: "b.csv", Data: []byte(rows)}}},
		} {
			if err := stream.Send(m); err != nil {
				break // CloseAndRecv has the reason
			}
		}
		_, err = stream.CloseAndRecv()
		return err
	}
	submit := func(ctx context.Context, name string) (*controlpb.Job, error) {
		return client.SubmitJob(ctx, &controlpb.SubmitJobRequest{JobFile: []byte("apiVersion: galley/v1\nkind: Train\nname: " + name +
			"\ntask: text-classification\ndata: {dataset: headlines}\n")})
	}
	want := func(what string, err error, code codes.Code) {
		t.Helper()
		if status.Code(err) != code {
			t.Errorf("%s: %v, want %s", what, err, code)
		}
		if e := FromStatus(err); code == codes.PermissionDenied && (e.Remedy == "" || !strings.Contains(e.Message, "tenant")) {
			t.Errorf("%s: %q, remedy %q", what, e.Message, e.Remedy)
		}
	}
	want("the first name", add(sports, "headlines", "1"), codes.OK)
	want("one's own name again", add(sports, "headlines", "2"), codes.OK)
	want("another's name", add(culture, "headlines", "3"), codes.PermissionDenied)
	want("any name, without a tenant", add(house, "headlines", "4"), codes.OK)
	want("a name of the house", add(house, "archive", "1"), codes.OK)
	want("a name of the house, by a tenant", add(sports, "archive", "2"), codes.PermissionDenied)

	job, err := submit(sports, "goals")
	want("a job", err, codes.OK)
	_, err = submit(culture, "goals")
	want("a job under another's name", err, codes.PermissionDenied)
	_, err = submit(culture, "reviews")
	want("a job on another's data", err, codes.OK)
	_, err = client.GetJob(culture, &controlpb.JobRequest{Job: job.GetJob()})
	want("reading another's job", err, codes.OK)
	_, err = client.CancelJob(culture, &controlpb.JobRequest{Job: job.GetJob()})
	want("cancelling another's job", err, codes.PermissionDenied)
	code, body := call(t, d.http, "POST", "/v1/jobs/"+job.GetJob()+"/cancel", "", "Authorization", "Bearer nonsense")
	if code != 401 {
		t.Errorf("%d %s", code, body)
	}
	_, err = client.CancelJob(sports, &controlpb.JobRequest{Job: job.GetJob()})
	want("cancelling one's own job", err, codes.OK)

	entries, err := d.store.Audit(t.Context(), store.AuditQuery{Actor: "culture-engineer", Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	var log []string
	for _, e := range entries {
		log = append(log, e.Action)
		if e.Action == "auth.refuse" && !strings.Contains(e.Detail, "tenant") || e.Token == "" || e.Address == "" {
			t.Errorf("%+v", e)
		}
	}
	if got := strings.Join(log, " "); got != "auth.refuse auth.refuse job.submit auth.refuse" {
		t.Errorf("audit: %s", got)
	}
}

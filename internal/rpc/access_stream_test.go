package rpc

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlpb "galley/api/control/v1"

	"galley/internal/auth"
	"galley/internal/store/sqlite"
)

// A follower sends a job each time that it is told to.
type follower struct {
	controlpb.UnimplementedControlServer
	next chan struct{}
}

func (f follower) WatchJob(_ *controlpb.JobRequest, stream grpc.ServerStreamingServer[controlpb.Job]) error {
	for {
		select {
		case <-f.next:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
		if err := stream.Send(&controlpb.Job{Job: "1"}); err != nil {
			return err
		}
	}
}

// Evaluate says when it has read all, and answers when it is told to.
func (f follower) Evaluate(stream grpc.ClientStreamingServer[controlpb.EvaluateRequest, controlpb.Report]) error {
	for {
		if _, err := stream.Recv(); err != nil {
			if !errors.Is(err, io.EOF) {
				return statusOf(err)
			}
			break
		}
	}
	f.next <- struct{}{}
	<-f.next
	return stream.SendAndClose(&controlpb.Report{Digest: "1"})
}

// What was asked for in time is answered; what is sent on a dead token is not
// read.
func TestUploadsAndTheirToken(t *testing.T) {
	f := follower{next: make(chan struct{})}
	d := newDoorstepOf(t, true, func(*sqlite.Store) controlpb.ControlServer { return f })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	begin := func() grpc.ClientStreamingClient[controlpb.EvaluateRequest, controlpb.Report] {
		stream, err := controlpb.NewControlClient(d.conn).Evaluate(as(ctx, d.secrets[auth.Engineer]))
		if err == nil {
			err = stream.Send(&controlpb.EvaluateRequest{})
		}
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	asked, late := begin(), begin()
	if err := asked.CloseSend(); err != nil {
		t.Fatal(err)
	}
	<-f.next
	if _, err := d.tokens.Revoke(ctx, "test", d.ids[auth.Engineer]); err != nil {
		t.Fatal(err)
	}
	f.next <- struct{}{}
	if m, err := asked.CloseAndRecv(); err != nil || m.GetDigest() != "1" {
		t.Errorf("%v %v", m, err)
	}
	_ = late.Send(&controlpb.EvaluateRequest{}) // which the server may have ended by now
	if m, err := late.CloseAndRecv(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("%v %v", m, err)
	}
}

// A stream gives nothing more once its token is revoked or has expired.
func TestStreamsEndWithTheirToken(t *testing.T) {
	f := follower{next: make(chan struct{})}
	d := newDoorstepOf(t, true, func(*sqlite.Store) controlpb.ControlServer { return f })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stream, err := controlpb.NewControlClient(d.conn).WatchJob(as(ctx, d.secrets[auth.Viewer]), &controlpb.JobRequest{Job: "1"})
	if err != nil {
		t.Fatal(err)
	}
	f.next <- struct{}{}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.tokens.Revoke(ctx, "test", d.ids[auth.Viewer]); err != nil {
		t.Fatal(err)
	}
	f.next <- struct{}{}
	if m, err := stream.Recv(); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "was revoked") {
		t.Errorf("%v %v", m, err)
	}

	r, err := http.NewRequestWithContext(ctx, "GET", d.http.URL+"/v1/jobs/1/watch", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+d.secrets[auth.Engineer])
	go func() { f.next <- struct{}{} }()
	answer, err := d.http.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	if !lines.Scan() || !strings.Contains(lines.Text(), `"job":"1"`) {
		t.Fatalf("%d %q %v", answer.StatusCode, lines.Text(), lines.Err())
	}
	if _, err := d.tokens.Revoke(ctx, "test", d.ids[auth.Engineer]); err != nil {
		t.Fatal(err)
	}
	f.next <- struct{}{}
	if !lines.Scan() || !strings.Contains(lines.Text(), `"code":"UNAUTHENTICATED"`) || lines.Scan() {
		t.Errorf("%q %v", lines.Text(), lines.Err())
	}
}

package rpc

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"

	"galley"
)

// A judge takes long to refuse.
type judge struct {
	controlpb.UnimplementedControlServer
	takes time.Duration
}

func (j judge) Promote(context.Context, *controlpb.PromoteRequest) (*controlpb.AliasChange, error) {
	time.Sleep(j.takes)
	return nil, statusOf(galley.Errorf(galley.FailedPrecondition, "news:prod", "the gate refuses it"))
}

// A refusal reaches its reader also when its method took longer than an answer
// of the server may.
func TestRESTLateRefusal(t *testing.T) {
	s := NewServer(inferencepb.UnimplementedGRPCInferenceServiceServer{}, judge{takes: 300 * time.Millisecond}, quiet())
	server := httptest.NewUnstartedServer(nil)
	server.Config = NewHTTPServer(NewHTTPHandler(s), quiet())
	server.Config.WriteTimeout = 100 * time.Millisecond
	server.Start()
	defer server.Close()
	answer, err := server.Client().Post(server.URL+"/v1/models/news@2/promote", "application/json", strings.NewReader(`{"alias":"prod"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != 400 || !strings.Contains(string(body), "the gate refuses it") {
		t.Errorf("%d %q %v", answer.StatusCode, body, err)
	}
}

// deadlines counts those that are set for reading.
type deadlines struct {
	http.ResponseWriter
	set int
}

func (d *deadlines) SetReadDeadline(time.Time) error {
	d.set++
	return nil
}

// A body that has ended sets no deadline: it would end the request.
func TestEndedBodySetsNoDeadline(t *testing.T) {
	d := &deadlines{}
	body := &stallingBody{ReadCloser: io.NopCloser(strings.NewReader("a form")), control: http.NewResponseController(d), stall: time.Minute}
	if data, err := io.ReadAll(body); err != nil || string(data) != "a form" {
		t.Fatalf("%q %v", data, err)
	}
	before := d.set
	if n, err := body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) || d.set != before || before == 0 {
		t.Errorf("%d %v, %d deadlines and %d more", n, err, before, d.set-before)
	}
}

package rpc

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"galley/api"
	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"
	newsroompb "galley/api/newsroom/v1"

	"galley"
	"galley/internal/blob"
	"galley/internal/control"
	"galley/internal/store/sqlite"
	"galley/trainer/engine"
)

// newHome makes a server of all services over an empty home.
func newHome(t testing.TB) *Server {
	t.Helper()
	home := t.TempDir()
	s, err := sqlite.Open(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.Open(filepath.Join(home, "blobs"), blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := control.Open(t.Context(), control.Options{
		Home: home, Store: s, Blobs: blobs, Launcher: refuser{}, Drivers: engine.Drivers{"onnx": refuser{}}, CPUs: 2, Logger: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := control.OpenTokens(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		c.Run(ctx)
	}()
	t.Cleanup(func() {
		c.Drain()
		stop()
		<-ran
		if err := errors.Join(c.Close(context.Background()), s.Close()); err != nil {
			t.Error(err)
		}
	})
	inference := newInference(t)
	server := NewServer(inference, NewControl(c), quiet())
	controlpb.RegisterAccessServer(server, NewTokens(tokens))
	controlpb.RegisterAuditServer(server, NewAudit(c))
	controlpb.RegisterExperimentsServer(server, NewExperiments(c))
	controlpb.RegisterFederationsServer(server, NewFederations(c))
	newsroompb.RegisterNewsroomServer(server, NewNewsroom(inference, c))
	return server
}

// newREST serves all services of an empty home over HTTP.
func newREST(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.Config = NewHTTPServer(NewHTTPHandler(newHome(t)), quiet())
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// form sends fields and files, in pairs; a file's name begins with @.
func form(t *testing.T, server *httptest.Server, path string, pairs ...string) (int, string) {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for i := 0; i < len(pairs); i += 2 {
		var part io.Writer
		var err error
		if name, ok := strings.CutPrefix(pairs[i], "@"); ok {
			part, err = w.CreateFormFile(name, name+".csv")
		} else {
			part, err = w.CreateFormField(pairs[i])
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(part, pairs[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return call(t, server, "POST", path, body.String(), "Content-Type", w.FormDataContentType())
}

// fields reads an answer.
func fields(t *testing.T, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return m
}

func TestRESTData(t *testing.T) {
	server := newREST(t)
	status, got := form(t, server, "/v1/data", "name", "news", "format", "csv", "seed", "1", "@train", news, "@test", news)
	d := fields(t, got)
	if status != 200 || d["version"] != 1.0 || d["rejected_total"] != "2" || len(d["splits"].([]any)) < 2 {
		t.Errorf("%d %s", status, got)
	}
	if rejected := d["rejected"].([]any)[0].(map[string]any); rejected["file"] != "train.csv" || rejected["line"] != "6" {
		t.Errorf("%v", rejected)
	}
	for path, want := range map[string]string{"/v1/data": `{"datasets":[{"name":"news",`, "/v1/data/news": `{"name":"news","version":1,`, "/v1/data/news@1": `{"name":"news","version":1,`} {
		if status, got := call(t, server, "GET", path, ""); status != 200 || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %d %s", path, status, got)
		}
	}
	for name, c := range map[string]struct {
		pairs []string
		want  string
	}{
		"unknown field":      {[]string{"name", "a", "color", "red"}, `{"error":{"code":"INVALID_ARGUMENT","subject":"color","message":"is no parameter of this route","remedy":"it takes name, format, columns, unlabelled, seed, labels, licence"}}`},
		"wrong type":         {[]string{"name", "a", "seed", "-1"}, `{"error":{"code":"INVALID_ARGUMENT","subject":"seed","message":"-1 is no uint64"}}`},
		"twice":              {[]string{"name", "a", "name", "b"}, `{"error":{"code":"INVALID_ARGUMENT","subject":"name","message":"is given 2 times","remedy":"give it once"}}`},
		"field after a file": {[]string{"name", "a", "format", "csv", "@train", news, "seed", "1"}, `{"error":{"code":"INVALID_ARGUMENT","subject":"seed","message":"comes after a file","remedy":"send the form's fields before its files"}}`},
		"long field":         {[]string{"name", strings.Repeat("a", maxFormValue+1)}, `{"error":{"code":"INVALID_ARGUMENT","subject":"name","message":"has more than 65536 bytes"}}`},
	} {
		if status, got := form(t, server, "/v1/data", c.pairs...); status != 400 || got != c.want {
			t.Errorf("%s: %d %s", name, status, got)
		}
	}
	if status, got := call(t, server, "POST", "/v1/data", "{}"); status != 400 || got != `{"error":{"code":"INVALID_ARGUMENT","subject":"body","message":"is no multipart form","remedy":"send fields and files as curl -F does"}}` {
		t.Errorf("%d %s", status, got)
	}
}

const jobFile = "apiVersion: galley/v1\nkind: Train\nname: topic\ntask: text-classification\ndata: {dataset: news}\n"

func TestRESTJobs(t *testing.T) {
	server := newREST(t)
	if status, got := form(t, server, "/v1/data", "name", "news", "format", "csv", "@train", news, "@test", news); status != 200 {
		t.Fatal(got)
	}
	status, got := call(t, server, "POST", "/v1/jobs?idempotency_key=k&set=recipe.seed=3", jobFile)
	job := fields(t, got)
	id, _ := job["job"].(string)
	if status != 200 || id == "" || job["name"] != "topic" {
		t.Fatalf("%d %s", status, got)
	}
	if _, again := call(t, server, "POST", "/v1/jobs?idempotency_key=k&set=recipe.seed=3", jobFile); fields(t, again)["job"] != id {
		t.Errorf("the same key made another job: %s", again)
	}
	// To its end, one document a line.
	status, got = call(t, server, "GET", "/v1/jobs/"+id+"/watch", "")
	lines := strings.Split(got, "\n")
	if last := fields(t, lines[len(lines)-1]); status != 200 || last["phase"] != "failed" || last["error"].(map[string]any)["subject"] != "recipe" {
		t.Errorf("%d %s", status, got)
	}
	status, got = call(t, server, "GET", "/v1/jobs/"+id+"/logs?follow=true", "")
	if !strings.Contains(got, `"text":"a line of the log"`) || status != 200 {
		t.Errorf("%d %s", status, got)
	}
	for path, want := range map[string]string{
		"/v1/jobs/" + id: `{"job":"` + id, "/v1/jobs?phase=failed&limit=5": `{"jobs":[{"job":"` + id, "/v1/jobs?phase=queued": `{"jobs":[]}`,
		"/v1/jobs/" + id + "/explain": `{"job":"` + id,
	} {
		if status, got := call(t, server, "GET", path, ""); status != 200 || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %d %s", path, status, got)
		}
	}
	if status, got := call(t, server, "POST", "/v1/jobs/"+id+"/resume", ""); status != 200 {
		t.Errorf("%d %s", status, got)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/v1/jobs/nope", "", 404, `"code":"NOT_FOUND","subject":"nope"`},
		{"GET", "/v1/jobs/nope/watch", "", 404, `"code":"NOT_FOUND","subject":"nope"`},
		{"GET", "/v1/jobs?limit=many", "", 400, `"subject":"limit","message":"many is no int32"`},
		{"GET", "/v1/jobs?colour=1", "", 400, `"subject":"colour","message":"is no parameter of this route","remedy":"it takes phase, limit`},
		{"GET", "/v1/jobs?phase=%zz", "", 400, `"subject":"query"`},
		{"GET", "/v1/jobs?phase=%ff", "", 400, `"subject":"phase","message":"is not valid UTF-8"`},
		{"GET", "/v1/jobs/a?job=b", "", 400, `"subject":"job","message":"is part of the path`},
		{"GET", "/v1/jobs", "x", 400, `"subject":"body","message":"is not taken here"`},
		{"POST", "/v1/jobs", "kind: [", 400, `"code":"INVALID_ARGUMENT"`},
		{"POST", "/v1/jobs?job_file=x", "", 400, `"subject":"job_file","message":"is the body`},
		{"POST", "/v1/jobs", strings.Repeat(" ", maxControlBody+1), 413, `"code":"RESOURCE_EXHAUSTED"`},
		{"PUT", "/v1/jobs", "", 405, `"message":"/v1/jobs does not take PUT; use `},
		{"GET", "/v1/nope", "", 404, `{"error":{"code":"NOT_FOUND","subject":"","message":"/v1/nope is not served here`},
		{"POST", "/v1/models/a@1/promote?alias=prod", "{}", 400, `"subject":"alias","message":"is a parameter of the query","remedy":"send it in the body`},
		{"POST", "/v1/models/a@1/promote", `{"alias":"prod","color":1}`, 400, `"subject":"body"`},
		{"POST", "/v1/models/a@1/promote", `{"alias":` + strings.Repeat("[", 1000), 400, `"subject":"body"`},
		{"POST", "/v1/models/a@1/promote", `{"alias":"prod"}`, 404, `"code":"NOT_FOUND"`},
		{"DELETE", "/v1/models/a@1", "", 404, `"code":"NOT_FOUND"`},
		{"GET", "/v1/models/a@1/export", "", 404, `"code":"NOT_FOUND"`},
		{"GET", "/v1/models/..%2f..%2fetc", "", 400, `"code":"INVALID_ARGUMENT"`},
	} {
		status, got := call(t, server, c.method, c.path, c.body)
		if status != c.status || !strings.Contains(got, c.want) || !strings.HasPrefix(got, `{"error":{"code":`) {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, got)
		}
	}
}

// A files service streams what it is given.
type files struct {
	controlpb.UnimplementedControlServer
	chunks []*controlpb.FileChunk
	fails  error
}

func (f files) ExportVersion(_ *controlpb.VersionRequest, stream grpc.ServerStreamingServer[controlpb.FileChunk]) error {
	for _, c := range f.chunks {
		if err := stream.Send(c); err != nil {
			return err
		}
	}
	return statusOf(f.fails)
}

func (f files) WatchJob(_ *controlpb.JobRequest, stream grpc.ServerStreamingServer[controlpb.Job]) error {
	if err := stream.Send(&controlpb.Job{Job: "1"}); err != nil {
		return err
	}
	return statusOf(f.fails)
}

func (files) GetJob(context.Context, *controlpb.JobRequest) (*controlpb.Job, error) {
	panic("at the job")
}

func (files) ListJobs(context.Context, *controlpb.ListJobsRequest) (*controlpb.ListJobsResponse, error) {
	return nil, statusOf(galley.Errorf(galley.ResourceExhausted, "jobs", "too many ask").WithRetry(1500 * time.Millisecond))
}

// Files become a tar archive; one that breaks off does not look whole.
func TestRESTExport(t *testing.T) {
	chunks := []*controlpb.FileChunk{
		{Path: "a", Size: 5, Data: []byte("abc")}, {Path: "a", Size: 5, Data: []byte("de")}, {Path: "empty"}, {Path: "also", Size: 0}, {Path: "b", Size: 1, Data: []byte("x")},
	}
	read := func(f files) (names []string, err error) {
		server := httptest.NewServer(NewHTTPHandler(NewServer(inferencepb.UnimplementedGRPCInferenceServiceServer{}, f, quiet())))
		defer server.Close()
		a, err := server.Client().Get(server.URL + "/v1/models/m@1/export")
		if err != nil {
			return nil, err
		}
		defer a.Body.Close()
		if a.Header.Get("Content-Type") != "application/x-tar" {
			t.Errorf("%v", a.Header)
		}
		for r := tar.NewReader(a.Body); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				return names, nil
			}
			if err != nil {
				return names, err
			}
			data, err := io.ReadAll(r)
			if err != nil {
				return names, err
			}
			names = append(names, h.Name+"="+string(data))
		}
	}
	if names, err := read(files{chunks: chunks}); err != nil || !slices.Equal(names, []string{"a=abcde", "empty=", "also=", "b=x"}) {
		t.Errorf("%v %v", names, err)
	}
	if names, err := read(files{chunks: chunks[:1], fails: galley.Errorf(galley.Unavailable, "a", "is gone")}); err == nil {
		t.Errorf("%v", names)
	}
}

func TestRESTFailures(t *testing.T) {
	server := httptest.NewServer(NewHTTPHandler(NewServer(inferencepb.UnimplementedGRPCInferenceServiceServer{}, files{fails: galley.Errorf(galley.Unavailable, "job", "is gone")}, quiet())))
	defer server.Close()
	// The error of a stream that has begun is its last line.
	if status, got := call(t, server, "GET", "/v1/jobs/1/watch", ""); status != 200 || !strings.HasSuffix(got, "\n"+`{"error":{"code":"UNAVAILABLE","subject":"job","message":"is gone"}}`) {
		t.Errorf("%d %s", status, got)
	}
	if status, got := call(t, server, "GET", "/v1/jobs/1", ""); status != 500 || !strings.Contains(got, `"code":"INTERNAL"`) || strings.Contains(got, "at the job") {
		t.Errorf("%d %s", status, got)
	}
	if status, got := call(t, server, "GET", "/v1/models", ""); status != 501 || !strings.Contains(got, `"code":"UNIMPLEMENTED"`) {
		t.Errorf("%d %s", status, got)
	}
	a, err := server.Client().Get(server.URL + "/v1/jobs")
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	if a.StatusCode != 429 || a.Header.Get("Retry-After") != "2" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	for _, header := range []string{"Origin", "Sec-Fetch-Site"} {
		if status, _ := call(t, server, "POST", "/v1/jobs/1/cancel", "", header, "cross-site"); status != 403 {
			t.Errorf("%s: %d", header, status)
		}
	}
}

// The description that is served has exactly the routes that are there.
func TestOpenAPI(t *testing.T) {
	s := NewServer(inferencepb.UnimplementedGRPCInferenceServiceServer{}, controlpb.UnimplementedControlServer{}, quiet())
	registerAll(s)
	server := httptest.NewServer(NewHTTPHandler(s))
	defer server.Close()
	status, got := call(t, server, "GET", "/openapi.json", "")
	if status != 200 || got != strings.TrimSpace(string(api.OpenAPI)) {
		t.Fatalf("%d %.100s", status, got)
	}
	var described, served []string
	for path, verbs := range fields(t, got)["paths"].(map[string]any) {
		for verb := range verbs.(map[string]any) {
			described = append(described, strings.ToUpper(verb)+" "+path)
		}
	}
	for _, r := range s.gateway.routes {
		served = append(served, r.verb+" "+r.path)
	}
	slices.Sort(described)
	slices.Sort(served)
	if !slices.Equal(described, served) {
		t.Errorf("described\n%s\nserved\n%s", strings.Join(described, "\n"), strings.Join(served, "\n"))
	}
}

// FuzzRESTFields holds that no text of a path, query or body makes the reader
// of requests panic, and that what it takes is a message that can be sent.
func FuzzRESTFields(f *testing.F) {
	f.Add("news@1", "limit=5&phase=queued", []byte("{}"))
	f.Add("a", "follow&after=-9223372036854775808", []byte(`{"alias":"prod","expect":"3","force":true}`))
	f.Add("%2e%2e", "set=a=1&set=b&limit=1e400", []byte(`{"alias":null,"reason":"\ud800"}`))
	f.Add("\xff", "%", []byte(strings.Repeat(`{"a":`, 100)))
	s := NewServer(inferencepb.UnimplementedGRPCInferenceServiceServer{}, controlpb.UnimplementedControlServer{}, quiet())
	f.Fuzz(func(t *testing.T, segment, query string, body []byte) {
		for _, route := range s.gateway.routes {
			if route.unary == nil && route.stream.ClientStreams {
				continue
			}
			r := &http.Request{Method: route.verb, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}
			r.URL = &url.URL{Path: "/", RawQuery: query}
			for _, name := range variables(route.path) {
				r.SetPathValue(name, segment)
			}
			message, err := readRequest(route, r)
			if err != nil {
				if galley.CodeOf(err) == galley.Unknown {
					t.Fatalf("%s %s: %v", route.verb, route.path, err)
				}
				continue
			}
			if _, err := proto.Marshal(message); err != nil {
				t.Fatalf("%s %s: %v", route.verb, route.path, err)
			}
		}
	})
}

func TestVariables(t *testing.T) {
	if got := fmt.Sprint(variables("/v1/{a}/b/{c}"), variables("/v1")); got != "[a c] []" {
		t.Error(got)
	}
}

// registerAll adds the services that a platform adds.
func registerAll(s *Server) {
	controlpb.RegisterAccessServer(s, controlpb.UnimplementedAccessServer{})
	controlpb.RegisterAuditServer(s, controlpb.UnimplementedAuditServer{})
	controlpb.RegisterExperimentsServer(s, controlpb.UnimplementedExperimentsServer{})
	controlpb.RegisterFederationsServer(s, controlpb.UnimplementedFederationsServer{})
	newsroompb.RegisterNewsroomServer(s, newsroompb.UnimplementedNewsroomServer{})
}

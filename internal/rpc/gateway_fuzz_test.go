package rpc

import (
	"bytes"
	"context"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"
	newsroompb "galley/api/newsroom/v1"

	"galley"
)

// A unaryMethod is one of a service that answers once.
type unaryMethod struct {
	name    string
	desc    grpc.MethodDesc
	service any
}

// unaryMethods lists those of the services of s, which are what is registered
// with a gateway or behind it.
func unaryMethods(s *Server) []unaryMethod {
	services := map[string]any{}
	for _, r := range s.gateway.routes {
		service, _, _ := strings.Cut(r.fullMethod[1:], "/")
		services[service] = r.service
	}
	services[inferencepb.GRPCInferenceService_ServiceDesc.ServiceName] = s.inference
	var all []unaryMethod
	for _, desc := range []*grpc.ServiceDesc{
		&controlpb.Control_ServiceDesc, &controlpb.Access_ServiceDesc, &controlpb.Audit_ServiceDesc,
		&inferencepb.GRPCInferenceService_ServiceDesc, &newsroompb.Newsroom_ServiceDesc,
	} {
		for _, m := range desc.Methods {
			all = append(all, unaryMethod{"/" + desc.ServiceName + "/" + m.MethodName, m, services[desc.ServiceName]})
		}
	}
	slices.SortFunc(all, func(a, b unaryMethod) int { return strings.Compare(a.name, b.name) })
	return all
}

// blame is an error that says the server is to blame.
func blame(err error) bool {
	code := FromStatus(err).Code
	return code == galley.Internal || code == galley.Unknown || code == galley.DataLoss
}

// FuzzRPC holds that no message makes a method panic or fail for reasons of the
// server. The first number chooses the method.
func FuzzRPC(f *testing.F) {
	s := newHome(f)
	methods := unaryMethods(s)
	for i, m := range methods {
		f.Add(uint8(i), []byte{})
		f.Add(uint8(i), []byte("\x0a\x06news@1"))
		f.Add(uint8(i), []byte("\x0a\x04\xff\xfe/\x00\x12\x05../..\x1a\x04prod"))
		if strings.HasSuffix(m.name, "/SubmitJob") {
			job, err := proto.Marshal(&controlpb.SubmitJobRequest{JobFile: []byte(jobFile), Set: []string{"recipe.epochs=-1", "=", "a.b.c=[[["}, IdempotencyKey: strings.Repeat("k", 300)})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), job)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, message []byte) {
		m := methods[int(which)%len(methods)]
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		unfit := false
		_, err := m.desc.Handler(m.service, ctx, func(into any) error {
			err := proto.Unmarshal(message, into.(proto.Message))
			unfit = err != nil
			return err
		}, s.gateway.unary)
		if err != nil && !unfit && blame(err) {
			t.Errorf("%s of %x: %v", m.name, message, err)
		}
	})
}

// FuzzREST holds the same for the routes: the first number chooses one, whose
// variables are all the segment.
func FuzzREST(f *testing.F) {
	s := newHome(f)
	handler := NewHTTPHandler(s)
	routes := s.gateway.routes
	for i := range routes {
		f.Add(uint8(i), "news@1", "limit=5", "application/json", []byte(`{"alias":"prod","name":"news","role":"viewer"}`))
		f.Add(uint8(i), "..", "after=-1&follow=maybe", "multipart/form-data; boundary=b", []byte("--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nnews\r\n--b\r\nContent-Disposition: form-data; name=\"train\"; filename=\"../a\"\r\n\r\ntext,label\r\n--b--"))
		f.Add(uint8(i), "\x00\xff", "a=%00&a&&=", "multipart/form-data; boundary=", []byte(strings.Repeat("[", 200)))
	}
	f.Fuzz(func(t *testing.T, which uint8, segment, query, contentType string, body []byte) {
		r := routes[int(which)%len(routes)]
		if segment == "" || segment == "." || segment == ".." {
			segment = "x" // the mux would clean the path
		}
		path := variable(r.path, url.PathEscape(segment))
		target, err := url.Parse(path)
		if err != nil {
			return
		}
		target.RawQuery = query
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		request := httptest.NewRequestWithContext(ctx, r.verb, "http://localhost/", bytes.NewReader(body))
		request.URL = target
		request.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, request)
		if w.Code == 500 {
			t.Errorf("%s %s?%q %q %q: %s", r.verb, path, query, contentType, body, w.Body)
		}
	})
}

// variable fills a path's variables.
func variable(path, with string) string {
	for _, name := range variables(path) {
		path = strings.ReplaceAll(path, "{"+name+"}", with)
	}
	return path
}

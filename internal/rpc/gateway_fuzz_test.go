package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"
	newsroompb "galley/api/newsroom/v1"

	"galley"
)

// A calledMethod is one of any service, without a connection in front of it.
type calledMethod struct {
	name string
	// call sends the message; a method that takes a stream gets the parts of it
	// that are apart.
	call func(ctx context.Context, message []byte) error
}

// apart divides the messages of a stream.
var apart = []byte("\xff\xff\xff")

// errUnfit is that a message is not one of the method's.
var errUnfit = errors.New("is not such a message")

// calledMethods lists those of the services of s, which are what is registered
// with a gateway or behind it.
func calledMethods(s *Server) []calledMethod {
	services := map[string]any{inferencepb.GRPCInferenceService_ServiceDesc.ServiceName: s.inference}
	for _, r := range s.gateway.routes {
		service, _, _ := strings.Cut(r.fullMethod[1:], "/")
		services[service] = r.service
	}
	control := services[controlpb.Control_ServiceDesc.ServiceName].(*Control).control
	services[controlpb.Batch_ServiceDesc.ServiceName] = NewBatch(control)
	services[controlpb.Maintenance_ServiceDesc.ServiceName] = NewMaintenance(control)
	var all []calledMethod
	for _, desc := range []*grpc.ServiceDesc{
		&controlpb.Control_ServiceDesc, &controlpb.Access_ServiceDesc, &controlpb.Audit_ServiceDesc, &controlpb.Batch_ServiceDesc,
		&controlpb.Maintenance_ServiceDesc, &controlpb.Experiments_ServiceDesc, &controlpb.Federations_ServiceDesc,
		&inferencepb.GRPCInferenceService_ServiceDesc, &newsroompb.Newsroom_ServiceDesc,
	} {
		service := services[desc.ServiceName]
		for _, m := range desc.Methods {
			all = append(all, calledMethod{"/" + desc.ServiceName + "/" + m.MethodName, func(ctx context.Context, message []byte) error {
				_, err := m.Handler(service, ctx, func(into any) error { return fit(message, into) }, s.gateway.unary)
				return err
			}})
		}
		for _, m := range desc.Streams {
			name := "/" + desc.ServiceName + "/" + m.StreamName
			info := &grpc.StreamServerInfo{FullMethod: name, IsClientStream: m.ClientStreams, IsServerStream: m.ServerStreams}
			all = append(all, calledMethod{name, func(ctx context.Context, message []byte) error {
				return s.gateway.stream(service, &parts{ctx: ctx, left: bytes.Split(message, apart)}, info, m.Handler)
			}})
		}
	}
	slices.SortFunc(all, func(a, b calledMethod) int { return strings.Compare(a.name, b.name) })
	return all
}

func fit(message []byte, into any) error {
	if proto.Unmarshal(message, into.(proto.Message)) != nil {
		return errUnfit
	}
	return nil
}

// A stream of parts forgets what is sent.
type parts struct {
	grpc.ServerStream
	ctx  context.Context
	left [][]byte
}

func (p *parts) Context() context.Context     { return p.ctx }
func (p *parts) SetHeader(metadata.MD) error  { return nil }
func (p *parts) SendHeader(metadata.MD) error { return nil }
func (p *parts) SetTrailer(metadata.MD)       {}
func (p *parts) SendMsg(any) error            { return p.ctx.Err() }

func (p *parts) RecvMsg(into any) error {
	if len(p.left) == 0 {
		return io.EOF
	}
	next := p.left[0]
	p.left = p.left[1:]
	return fit(next, into)
}

// streamed are messages of methods that take several.
func streamed(f *testing.F) map[string][]byte {
	several := func(messages ...proto.Message) []byte {
		var all [][]byte
		for _, m := range messages {
			data, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			all = append(all, data)
		}
		return bytes.Join(all, apart)
	}
	rows := piece("train", news)
	return map[string][]byte{
		controlpb.Control_AddData_FullMethodName: several(
			&controlpb.AddDataRequest{Part: &controlpb.AddDataRequest_Header{Header: &controlpb.AddDataHeader{Name: "news", Format: "csv"}}},
			&controlpb.AddDataRequest{Part: &controlpb.AddDataRequest_Piece{Piece: rows}}),
		controlpb.Control_UploadModel_FullMethodName: several(
			&controlpb.UploadModelRequest{Piece: piece("model.onnx", "no graph")}, &controlpb.UploadModelRequest{Piece: piece("../labels.json", "[")}),
		controlpb.Control_Evaluate_FullMethodName: several(
			&controlpb.EvaluateRequest{Part: &controlpb.EvaluateRequest_Header{Header: &controlpb.EvaluateHeader{Ref: "news@1", Format: "csv"}}},
			&controlpb.EvaluateRequest{Part: &controlpb.EvaluateRequest_Piece{Piece: rows}}),
		controlpb.Batch_Predict_FullMethodName: several(
			&controlpb.PredictRequest{Part: &controlpb.PredictRequest_Header{Header: &controlpb.PredictHeader{Ref: "news@1"}}},
			&controlpb.PredictRequest{Part: &controlpb.PredictRequest_Chunk{Chunk: &controlpb.PredictChunk{Number: -1, Texts: []string{""}}}}),
	}
}

// blame is an error that says the server is to blame.
func blame(err error) bool {
	code := FromStatus(err).Code
	return code == galley.Internal || code == galley.Unknown || code == galley.DataLoss
}

// FuzzRPC holds that no message makes a method panic or fail for reasons of the
// server, whether it comes alone or in a stream. The first number chooses the
// method.
func FuzzRPC(f *testing.F) {
	s := newHome(f)
	methods, several := calledMethods(s), streamed(f)
	for i, m := range methods {
		f.Add(uint8(i), []byte{})
		f.Add(uint8(i), []byte("\x0a\x06news@1"))
		f.Add(uint8(i), []byte("\x0a\x04\xff\xfe/\x00\x12\x05../..\x1a\x04prod"))
		if messages, ok := several[m.name]; ok {
			f.Add(uint8(i), messages)
		}
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
		if err := m.call(ctx, message); err != nil && !errors.Is(err, errUnfit) && !strings.Contains(err.Error(), errUnfit.Error()) && blame(err) {
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

package rpc

import (
	"context"
	"log/slog"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	grpcmd "google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"
	newsroompb "galley/api/newsroom/v1"

	"galley/internal/auth"
	"galley/internal/control"
	"galley/internal/store/sqlite"
)

// A doorstep is a server of all services, none of which does anything, with a
// token of each role.
type doorstep struct {
	store   *sqlite.Store
	tokens  *control.Tokens
	secrets map[auth.Role]string
	ids     map[auth.Role]string
	server  *Server
	api     *httpAPI
	http    *httptest.Server
	conn    *grpc.ClientConn
	log     lockedBuffer

	mu     sync.Mutex
	now    time.Time
	passed time.Duration // by the clock that nobody sets
}

func newDoorstep(t *testing.T, required bool) *doorstep {
	t.Helper()
	return newDoorstepOf(t, required, func(*sqlite.Store) controlpb.ControlServer { return controlpb.UnimplementedControlServer{} })
}

// newDoorstepOf does the same before a control API that does something.
func newDoorstepOf(t *testing.T, required bool, controlOf func(*sqlite.Store) controlpb.ControlServer) *doorstep {
	t.Helper()
	d := &doorstep{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), passed: time.Hour, secrets: map[auth.Role]string{}, ids: map[auth.Role]string{}}
	var err error
	if d.store, err = sqlite.Open(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	clock := auth.NewClock(func() time.Time {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.now
	}, func() time.Duration {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.passed
	})
	if d.tokens, err = control.OpenTokens(t.Context(), d.store, clock); err != nil {
		t.Fatal(err)
	}
	for _, r := range auth.Roles() {
		made, secret, err := d.tokens.Create(t.Context(), "test", control.TokenRequest{Role: r, Name: "the-" + string(r), Lifetime: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		d.secrets[r], d.ids[r] = secret, made.ID
	}
	log := slog.New(slog.NewTextHandler(&d.log, nil))
	entrance := NewAccess(d.tokens, log).Entrance(required)
	d.server = NewServer(inferencepb.UnimplementedGRPCInferenceServiceServer{}, controlOf(d.store), log, WithEntrances(entrance, entrance))
	controlpb.RegisterAccessServer(d.server, NewTokens(d.tokens))
	controlpb.RegisterAuditServer(d.server, controlpb.UnimplementedAuditServer{})
	controlpb.RegisterFederationsServer(d.server, controlpb.UnimplementedFederationsServer{})
	controlpb.RegisterMaintenanceServer(d.server, controlpb.UnimplementedMaintenanceServer{})
	controlpb.RegisterBatchServer(d.server, controlpb.UnimplementedBatchServer{})
	newsroompb.RegisterNewsroomServer(d.server, newsroompb.UnimplementedNewsroomServer{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- d.server.Serve(listener) }()
	d.conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	d.api = newHTTPAPI(d.server)
	d.http = httptest.NewUnstartedServer(nil)
	d.http.Config = NewHTTPServer(NewHTTPHandler(d.server), log)
	d.http.Start()
	t.Cleanup(func() {
		d.conn.Close()
		d.http.Close()
		d.server.Shutdown(context.Background())
		<-served
		d.store.Close()
	})
	return d
}

// pass lets time pass.
func (d *doorstep) pass(long time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now, d.passed = d.now.Add(long), d.passed+long
}

// set has the machine's clock jump.
func (d *doorstep) set(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = d.now.Add(by)
}

// as shows a secret, if it is not empty.
func as(ctx context.Context, secret string) context.Context {
	if secret == "" {
		return ctx
	}
	return grpcmd.AppendToOutgoingContext(ctx, "authorization", "Bearer "+secret)
}

// call calls a method of any kind with an empty message.
func (d *doorstep) call(t *testing.T, secret, method string) error {
	ctx, cancel := context.WithTimeout(as(t.Context(), secret), 5*time.Second)
	defer cancel()
	stream, err := d.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	// A refusal may come before the message is sent.
	_ = stream.SendMsg(&emptypb.Empty{})
	_ = stream.CloseSend()
	return stream.RecvMsg(&emptypb.Empty{})
}

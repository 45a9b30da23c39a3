package rpc

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"

	"galley/serving"
)

// A stalling connection reads nothing any more once it is stalled.
type stalling struct {
	net.Conn
	stalled chan struct{}
	closed  chan struct{}
	once    sync.Once
}

func (c *stalling) Read(p []byte) (int, error) {
	select {
	case <-c.stalled:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return c.Conn.Read(p)
	}
}

func (c *stalling) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// A client that does not read its answers holds up neither others nor the end.
func TestSlowReaderHoldsNothing(t *testing.T) {
	s := newInference(t)
	server := NewServer(s, controlpb.UnimplementedControlServer{}, quiet())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		server.Shutdown(ctx)
	})
	stall := make(chan struct{})
	dial := func(options ...grpc.DialOption) inferencepb.GRPCInferenceServiceClient {
		conn, err := grpc.NewClient(l.Addr().String(), append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return inferencepb.NewGRPCInferenceServiceClient(conn)
	}
	slow := dial(grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		return &stalling{Conn: conn, stalled: stall, closed: make(chan struct{})}, err
	}))
	// Its answer is larger than the window that the client has opened.
	large := asked(slices.Repeat([]string{"sport"}, serving.MaxTexts)...)
	if _, err := slow.ModelInfer(t.Context(), large); err != nil {
		t.Fatal(err)
	}
	answered := s.Table.Statistics("news", 0)[0].Success.Count
	close(stall)
	var stuck sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer stuck.Wait()
	defer cancel()
	for range 8 {
		stuck.Go(func() {
			if _, err := slow.ModelInfer(ctx, large); status.Code(err) != codes.Canceled {
				t.Errorf("a client that reads nothing gets %v", err)
			}
		})
	}
	// The first of them reaches the server at least; its answer is under way.
	for begun := time.Now(); s.Table.Statistics("news", 0)[0].Success.Count == answered; time.Sleep(time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("nothing arrives")
		}
	}
	quick := dial()
	for range 3 {
		if _, err := quick.ModelInfer(t.Context(), large); err != nil {
			t.Error(err)
		}
	}
	s.Table.Close() // waits for what is closed, which is all that no one uses
	if _, err := quick.ModelInfer(t.Context(), large); status.Code(err) != codes.Unavailable {
		t.Errorf("a closed table answers %v", err)
	}
}

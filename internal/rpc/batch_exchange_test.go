package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	controlpb "galley/api/control/v1"

	"galley"
)

// An exchanging server answers each chunk after a while, with so many scores.
type exchanging struct {
	controlpb.UnimplementedBatchServer
	takes           time.Duration
	scores          int
	silence, unread time.Duration
	ended           chan error
}

func (s *exchanging) Predict(stream controlpb.Batch_PredictServer) error {
	x := exchange{stream: stream, parallel: 2, silence: s.silence, unread: s.unread,
		answer: func(_ context.Context, chunk *controlpb.PredictChunk) (*controlpb.PredictAnswers, error) {
			time.Sleep(s.takes)
			return &controlpb.PredictAnswers{Number: chunk.GetNumber(), Scores: make([]float32, s.scores)}, nil
		},
	}
	err := statusOf(x.run())
	s.ended <- err
	return err
}

// open begins a stream with such a server.
func (s *exchanging) open(t *testing.T) controlpb.Batch_PredictClient {
	t.Helper()
	s.ended = make(chan error, 1)
	server := grpc.NewServer()
	controlpb.RegisterBatchServer(server, s)
	l := bufconn.Listen(1 << 20)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	stream, err := controlpb.NewBatchClient(conn).Predict(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func sendChunk(t *testing.T, stream controlpb.Batch_PredictClient, number int64) {
	t.Helper()
	chunk := &controlpb.PredictChunk{Number: number, Texts: []string{"a"}}
	err := stream.Send(&controlpb.PredictRequest{Part: &controlpb.PredictRequest_Chunk{Chunk: chunk}})
	if err != nil && !errors.Is(err, io.EOF) { // which Recv explains
		t.Fatal(err)
	}
}

func (s *exchanging) wantEnd(t *testing.T, stream controlpb.Batch_PredictClient, message string) {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on")
	}
	var err error
	for err == nil {
		_, err = stream.Recv()
	}
	if e := FromStatus(err); e.Code != galley.DeadlineExceeded || e.Subject != "predict" || e.Message != message || e.Remedy == "" {
		t.Errorf("%v", err)
	}
}

// A client that says nothing gets its stream ended.
func TestBatchSilence(t *testing.T) {
	s := &exchanging{silence: 50 * time.Millisecond, unread: time.Minute}
	stream := s.open(t)
	s.wantEnd(t, stream, "no chunk came for 50ms")

	s = &exchanging{silence: time.Second, unread: time.Minute, takes: 1200 * time.Millisecond} // the server's time is not the client's
	stream = s.open(t)
	for n := range int64(2) {
		sendChunk(t, stream, n)
		if got, err := stream.Recv(); err != nil || got.GetAnswers().GetNumber() != n {
			t.Fatalf("%v, %v", got, err)
		}
	}
	s.wantEnd(t, stream, "no chunk came for 1s")
}

// So does one that does not read.
func TestBatchUnread(t *testing.T) {
	s := &exchanging{silence: time.Minute, unread: 100 * time.Millisecond, scores: 200_000}
	stream := s.open(t)
	for n := range int64(6) {
		sendChunk(t, stream, n)
	}
	s.wantEnd(t, stream, "the client has read nothing for 100ms")
}

func TestBatchEnds(t *testing.T) {
	s := &exchanging{silence: time.Minute, unread: time.Minute}
	stream := s.open(t)
	sendChunk(t, stream, 7)
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if got, err := stream.Recv(); err != nil || got.GetAnswers().GetNumber() != 7 {
		t.Errorf("%v, %v", got, err)
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

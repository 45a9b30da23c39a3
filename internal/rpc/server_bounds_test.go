package rpc

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"
)

// A message of more than there may be is refused, also one that is small until
// it is unfolded.
func TestMessagesAreBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("packs a hundred megabytes")
	}
	client := newInferenceClient(t, newInference(t))
	large := &inferencepb.ModelInferRequest{ModelName: "news", RawInputContents: [][]byte{make([]byte, maxMessage)}}
	for name, option := range map[string]grpc.CallOption{"plain": grpc.EmptyCallOption{}, "a bomb of gzip": grpc.UseCompressor("gzip")} {
		_, err := client.ModelInfer(t.Context(), large, option)
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "larger than max") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := client.ModelInfer(t.Context(), asked("sport"), grpc.UseCompressor("gzip")); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A connection is told how many streams it may have and how much head a request.
func TestConnectionSettings(t *testing.T) {
	s := NewServer(inferencepb.UnimplementedGRPCInferenceServiceServer{}, controlpb.UnimplementedControlServer{}, quiet())
	l := listenLocal(t, 10)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	defer func() {
		s.grpc.Stop()
		<-served
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		t.Fatal(err)
	}
	// The first frame is the server's settings (RFC 9113, 6.5).
	head := make([]byte, 9)
	if _, err := io.ReadFull(c, head); err != nil || head[3] != 4 {
		t.Fatalf("%x, %v", head, err)
	}
	body := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
	if _, err := io.ReadFull(c, body); err != nil {
		t.Fatal(err)
	}
	told := map[uint16]uint32{}
	for ; len(body) >= 6; body = body[6:] {
		told[binary.BigEndian.Uint16(body)] = binary.BigEndian.Uint32(body[2:])
	}
	if told[3] != maxStreams || told[6] != maxHeaders {
		t.Errorf("%d streams and %d bytes of head", told[3], told[6])
	}
}

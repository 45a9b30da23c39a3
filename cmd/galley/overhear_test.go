package main

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"google.golang.org/grpc"
	grpcmd "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/protobuf/proto"

	federationpb "galley/api/federation/v1"
)

// An overheard is all that one side of connections has sent and received, in
// plain text: each message, decompressed, with fields that it does not know, and
// each header and trailer. It is a stats.Handler of a server, in app.overhear,
// or of a client, in grpc.WithStatsHandler.
//
// Transport compression, Huffman codes of headers and TLS do not hide anything
// from it, as they would from who listens on the wire.
type overheard struct {
	mu       sync.Mutex
	in, out  bytes.Buffer
	messages int
	updates  int // bytes of in that are pieces of updates
}

var _ stats.Handler = (*overheard)(nil)

// server has a server overheard.
func (o *overheard) server() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.StatsHandler(o)}
}

func (o *overheard) TagRPC(ctx context.Context, i *stats.RPCTagInfo) context.Context {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.in.WriteString(i.FullMethodName + "\n")
	return ctx
}

func (o *overheard) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (o *overheard) HandleConn(context.Context, stats.ConnStats)                       {}

func (o *overheard) HandleRPC(_ context.Context, s stats.RPCStats) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch s := s.(type) {
	case *stats.InPayload:
		o.message(&o.in, s.Payload)
	case *stats.OutPayload:
		o.message(&o.out, s.Payload)
	case *stats.InHeader:
		headers(&o.in, s.Header)
	case *stats.OutHeader:
		headers(&o.out, s.Header)
	case *stats.InTrailer:
		headers(&o.in, s.Trailer)
	case *stats.OutTrailer:
		headers(&o.out, s.Trailer)
	}
}

func (o *overheard) message(to *bytes.Buffer, payload any) {
	o.messages++
	if m, ok := payload.(*federationpb.UploadRequest); ok && to == &o.in {
		o.updates += len(m.GetData())
	}
	data, err := proto.Marshal(payload.(proto.Message))
	if err != nil {
		data = []byte("a message that cannot be written: " + err.Error())
	}
	to.Write(data)
	to.WriteByte('\n')
}

func headers(to *bytes.Buffer, all grpcmd.MD) {
	for name, values := range all {
		for _, value := range values {
			to.WriteString(name + ": " + value + "\n")
		}
	}
}

// size is how many bytes were received and sent, and how many of those that were
// received are not of updates.
func (o *overheard) size() (in, out, beside int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.in.Len(), o.out.Len(), o.in.Len() - o.updates
}

// holds reports whether a text was received or sent, as it is, or as UTF-16.
func (o *overheard) holds(text string) bool {
	var wide []byte
	for _, r := range text {
		wide = append(wide, byte(r), byte(r>>8))
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, form := range [][]byte{[]byte(text), wide} {
		if bytes.Contains(o.in.Bytes(), form) || bytes.Contains(o.out.Bytes(), form) {
			return true
		}
	}
	return false
}

// silentAbout fails for each of texts that was overheard. heard is one that
// must have been: else nothing was listened to.
func (o *overheard) silentAbout(t *testing.T, heard string, texts ...string) {
	t.Helper()
	if !o.holds(heard) {
		in, out, _ := o.size()
		t.Fatalf("%q was not overheard in %d and %d bytes", heard, in, out)
	}
	for _, text := range texts {
		if o.holds(text) {
			t.Errorf("%q went over the wire", text)
		}
	}
}

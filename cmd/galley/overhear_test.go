package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcmd "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	federationpb "galley/api/federation/v1"

	"galley"
)

// An overheard is all that one side of connections has sent and received, in
// plain text: each message, decompressed, with fields that it does not know, and
// each header and trailer. It is a stats.Handler of a server, in app.overhear,
// or of a client, in app.overhearAgent.
//
// Transport compression, Huffman codes of headers and TLS do not hide anything
// from it, as they would from who listens on the wire.
type overheard struct {
	mu    sync.Mutex
	calls []*overheardCall
}

// An overheardCall is one call, as one side has it.
type overheardCall struct {
	method    string
	sent, got overheardSide
	ended     bool
	failed    error
}

// An overheardSide is one direction of a call.
type overheardSide struct {
	metadata bytes.Buffer
	messages []overheardMessage
}

// An overheardMessage is one message.
type overheardMessage struct {
	proto.Message
	data []byte // as it is written
}

var _ stats.Handler = (*overheard)(nil)

// server has a server overheard, and agent an agent.
func (o *overheard) server() []grpc.ServerOption { return []grpc.ServerOption{grpc.StatsHandler(o)} }
func (o *overheard) agent() []grpc.DialOption    { return []grpc.DialOption{grpc.WithStatsHandler(o)} }

type overheardKey struct{}

func (o *overheard) TagRPC(ctx context.Context, i *stats.RPCTagInfo) context.Context {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := &overheardCall{method: i.FullMethodName}
	o.calls = append(o.calls, c)
	return context.WithValue(ctx, overheardKey{}, c)
}

func (o *overheard) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (o *overheard) HandleConn(context.Context, stats.ConnStats)                       {}

func (o *overheard) HandleRPC(ctx context.Context, s stats.RPCStats) {
	c := ctx.Value(overheardKey{}).(*overheardCall)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch s := s.(type) {
	case *stats.InPayload:
		c.got.message(s.Payload)
	case *stats.OutPayload:
		c.sent.message(s.Payload)
	case *stats.InHeader:
		c.got.headers(s.Header)
	case *stats.OutHeader:
		c.sent.headers(s.Header)
	case *stats.InTrailer:
		c.got.headers(s.Trailer)
	case *stats.OutTrailer:
		c.sent.headers(s.Trailer)
	case *stats.End:
		c.ended, c.failed = true, s.Error
	}
}

func (s *overheardSide) message(payload any) {
	m := overheardMessage{Message: proto.Clone(payload.(proto.Message))}
	var err error
	if m.data, err = (proto.MarshalOptions{Deterministic: true}).Marshal(m.Message); err != nil {
		m.data = []byte("a message that cannot be written: " + err.Error())
	}
	s.messages = append(s.messages, m)
}

func (s *overheardSide) headers(all grpcmd.MD) {
	for name, values := range all {
		for _, value := range values {
			s.metadata.WriteString(name + ": " + value + "\n")
		}
	}
}

// kind names the type of a message.
func (m overheardMessage) kind() protoreflect.FullName {
	return m.ProtoReflect().Descriptor().FullName()
}

// piece is what a message brings of a file, of weights or of an update.
func (m overheardMessage) piece() []byte {
	switch m := m.Message.(type) {
	case *federationpb.UploadRequest:
		return m.GetData()
	case *federationpb.ModelChunk:
		return m.GetData()
	case *federationpb.WeightsChunk:
		return m.GetData()
	}
	return nil
}

// body is what the pieces of one direction are together.
func (s *overheardSide) body() []byte {
	var all []byte
	for _, m := range s.messages {
		all = append(all, m.piece()...)
	}
	return all
}

// text is all of one direction: each message by itself, and the pieces put
// together, since a text could lie across two.
func (s *overheardSide) text() []byte {
	all := slices.Clone(s.metadata.Bytes())
	for _, m := range s.messages {
		all = append(append(all, m.data...), '\n')
	}
	return append(append(all, s.body()...), '\n')
}

// each calls do with each call.
func (o *overheard) each(do func(*overheardCall)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.calls {
		do(c)
	}
}

// text is all that was sent and received, by either side.
func (o *overheard) text() (all []byte) {
	o.each(func(c *overheardCall) {
		all = append(append(all, c.method...), '\n')
		all = append(append(all, c.sent.text()...), c.got.text()...)
	})
	return all
}

// over waits until all calls have ended: one side of a call may end after the
// other.
func (o *overheard) over(t *testing.T) {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		open := ""
		o.each(func(c *overheardCall) {
			if !c.ended {
				open = c.method
			}
		})
		if open == "" {
			return
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("%s goes on", open)
		}
	}
}

// heardSums counts messages by kind and digest.
type heardSums map[string]int

func (h heardSums) add(s *overheardSide) {
	for _, m := range s.messages {
		h[string(m.kind())+" "+string(galley.DigestBytes(m.data))]++
	}
}

// broke reports whether a call failed but for its agent's going away: that is how
// one ends attending, and fetching once it has all the weights.
func (c *overheardCall) broke() bool {
	left := c.method == federationpb.Partners_Attend_FullMethodName || c.method == federationpb.Partners_FetchWeights_FullMethodName
	return c.failed != nil && !(left && status.Code(c.failed) == codes.Canceled)
}

// differences says which messages the agents have sent and the server has not
// received as often, and the reverse. If a connection broke, and was made again,
// what calls that broke have sent may not have come.
func differences(server *overheard, agents ...*overheard) (all []string) {
	up, down := [2]heardSums{{}, {}}, [2]heardSums{{}, {}} // sent, received
	cut, lost, broken := heardSums{}, heardSums{}, 0       // sent by calls that did not end well
	note := func(c *overheardCall) {
		if c.broke() {
			broken++
		}
		if c.failed == nil {
			return
		}
		if lost.add(&c.sent); c.method == federationpb.Partners_Attend_FullMethodName {
			cut.add(&c.sent) // to an agent that was going away
		}
	}
	for _, agent := range agents {
		agent.each(func(c *overheardCall) {
			up[0].add(&c.sent)
			down[1].add(&c.got)
			note(c)
		})
	}
	server.each(func(c *overheardCall) {
		up[1].add(&c.got)
		down[0].add(&c.sent)
		note(c)
	})
	if broken > 0 {
		cut = lost
	}
	for _, way := range [][2]heardSums{up, down} {
		sent, came := way[0], way[1]
		if len(sent) == 0 || len(came) == 0 {
			all = append(all, fmt.Sprintf("%d and %d messages were overheard at the two ends", len(sent), len(came)))
		}
		for m, n := range came {
			if n > sent[m] {
				all = append(all, fmt.Sprintf("%s came %d times, and was sent %d times", m, n, sent[m]))
			}
		}
		for m, n := range sent {
			if n > came[m]+cut[m] {
				all = append(all, fmt.Sprintf("%s was sent %d times, and came %d times", m, n, came[m]))
			}
		}
	}
	return all
}

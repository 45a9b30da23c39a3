package rpc

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	federationpb "galley/api/federation/v1"

	"galley/internal/control"
)

// Bounds of a connection of a partner's agent.
const (
	maxPartnerMessage     = maxPiece + 64<<10 // a piece and what is around it
	maxPartnerHeaders     = 16 << 10
	maxPartnerStreams     = 8
	partnerStreamWindow   = 256 << 10 // what a client may send before it is read
	partnerWindow         = 512 << 10 // over all streams
	maxPartnerConnections = 8         // of one partner

	// A machine that is gone is noticed after both: its agent is no longer
	// present then.
	partnerPing   = 20 * time.Second
	partnerAnswer = 20 * time.Second

	partnerCallTime  = time.Minute      // for a call that is no stream
	partnerStallTime = 30 * time.Second // for a piece of an update, and a message to be read
	partnerSweepTime = time.Second      // between two looks at who may still be connected
)

// A PartnersServer answers agents of partner institutions on a port of its own,
// and nothing else: TLS 1.3 with certificates that were enrolled on one side and
// the server's own on the other. Who calls is who the certificate is of.
type PartnersServer struct {
	grpc    *grpc.Server
	control *control.Control
	access  *Access // its clock, and the bounds of what failures may cost
	log     *slog.Logger
	conns   partnerConns
	counts  *partnerCounts
	stall   time.Duration
	sweep   time.Duration

	closing context.Context // of streams that would not end by themselves
	close   context.CancelFunc
	swept   sync.WaitGroup
}

// NewPartnersServer makes a server for the agents of c's partners, which shows
// the certificate that identity returns. options come beside its own.
func NewPartnersServer(c *control.Control, identity func(*tls.ClientHelloInfo) (*tls.Certificate, error), access *Access, log *slog.Logger, options ...grpc.ServerOption) *PartnersServer {
	s := &PartnersServer{
		control: c, access: access, log: log, stall: partnerStallTime, sweep: partnerSweepTime, counts: newPartnerCounts(),
		conns: partnerConns{most: maxPartnerConnections, held: map[string][]*partnerConn{}},
	}
	s.closing, s.close = context.WithCancel(context.Background())
	s.grpc = grpc.NewServer(append([]grpc.ServerOption{
		grpc.Creds(newPartnerCredentials(s, identity)),
		grpc.MaxRecvMsgSize(maxPartnerMessage),
		grpc.MaxSendMsgSize(maxPartnerMessage),
		grpc.MaxConcurrentStreams(maxPartnerStreams),
		grpc.InitialWindowSize(partnerStreamWindow),
		grpc.InitialConnWindowSize(partnerWindow),
		grpc.ReadBufferSize(4 << 10), // beside that of TLS
		grpc.MaxHeaderListSize(maxPartnerHeaders),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 15 * time.Minute, Time: partnerPing, Timeout: partnerAnswer}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.InTapHandle(bounded),
		grpc.UnaryInterceptor(chainUnary(unaryGuard(log, nil), s.unary)),
		grpc.StreamInterceptor(chainStream(streamGuard(log, nil), s.stream)),
	}, options...)...)
	federationpb.RegisterPartnersServer(s.grpc, &partners{server: s})
	return s
}

// Serve answers on l, whose connections it speaks TLS with itself, until
// Shutdown.
func (s *PartnersServer) Serve(l net.Listener) error {
	s.swept.Go(s.watch)
	return s.grpc.Serve(l)
}

// Shutdown ends the streams through which agents wait, and refuses new
// requests; it waits for those under way until ctx ends, and then cuts them off.
func (s *PartnersServer) Shutdown(ctx context.Context) {
	s.close()
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
	s.swept.Wait()
}

// watch closes the connections of partners that may no longer be connected:
// their certificate has expired, was revoked, or another is in its place.
func (s *PartnersServer) watch() {
	again := time.NewTicker(s.sweep)
	defer again.Stop()
	for {
		select {
		case <-s.closing.Done():
			return
		case <-again.C:
		}
		for _, c := range s.conns.all() {
			if _, err := s.of(s.closing, c.der); err != nil {
				s.log.Info("a partner's connection was ended", "partner", c.partner, "address", c.address, "why", err)
				c.cut()
			}
		}
	}
}

// of returns the partner that a certificate is of, if it may be connected now.
func (s *PartnersServer) of(ctx context.Context, der []byte) (string, error) {
	p, err := s.control.PartnerByCertificate(ctx, der, s.access.tokens.Now())
	return p.Name, err
}

package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"

	"google.golang.org/grpc/credentials"

	"galley"
)

// partnerCredentials make a connection that partners' agents may use: TLS 1.3,
// with a client's certificate that was enrolled. There is no authority: each
// certificate is known by itself, or not.
type partnerCredentials struct {
	credentials.TransportCredentials // TLS
	server                           *PartnersServer
}

func newPartnerCredentials(s *PartnersServer, identity func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *partnerCredentials {
	return &partnerCredentials{server: s, TransportCredentials: credentials.NewTLS(&tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: identity,
		ClientAuth:     tls.RequireAnyClientCert,
		// A session that goes on would not show its certificate again.
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return galley.Errorf(galley.Unauthenticated, "certificate", "none was shown")
			}
			_, err := s.of(s.closing, state.PeerCertificates[0].Raw)
			return err
		},
	})}
}

// A partnerInfo is what the server knows of a connection's other side.
type partnerInfo struct {
	credentials.TLSInfo
	der []byte // the certificate
}

// ServerHandshake implements credentials.TransportCredentials.
func (c *partnerCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	s := c.server
	counted := &countedConn{raw, &s.counts.in, &s.counts.out}
	address := raw.RemoteAddr().String()
	conn, info, err := c.TransportCredentials.ServerHandshake(counted)
	if err != nil {
		s.refused(address, err)
		return nil, nil, err
	}
	state := info.(credentials.TLSInfo)
	der := state.State.PeerCertificates[0].Raw
	partner, err := s.of(s.closing, der)
	if err != nil {
		conn.Close()
		s.refused(address, err)
		return nil, nil, err
	}
	held := &partnerConn{Conn: conn, raw: raw, partner: partner, address: address, der: der}
	s.conns.hold(held)
	return held, partnerInfo{state, der}, nil
}

// Clone implements credentials.TransportCredentials.
func (c *partnerCredentials) Clone() credentials.TransportCredentials {
	return &partnerCredentials{c.TransportCredentials.Clone(), c.server}
}

// refused counts a connection that was not made, and says why in the log while
// its address has not failed too often. The other side learns no more than TLS
// can say.
func (s *PartnersServer) refused(address string, err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		return // a balancer that looks whether the port is there; the server's own end
	}
	reason := "handshake"
	switch galley.CodeOf(err) {
	case galley.Unauthenticated:
		reason = "unauthenticated"
	case galley.PermissionDenied:
		reason = "refused"
	}
	s.counts.refused.WithLabelValues(reason).Inc()
	if _, ok := s.access.failures.Allow(host(address), s.access.tokens.Now()); ok {
		s.log.Warn("a partner's connection was refused", "address", address, "why", err)
	}
}

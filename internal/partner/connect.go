package partner

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/federation"
)

const (
	// maxMessage is what a message of the coordinator's may have: a piece of a
	// file, or an offer.
	maxMessage = 1<<20 + 64<<10
	maxHeaders = 16 << 10
	callTime   = time.Minute // of a call that is no stream
	agentName  = "galley-partner"
)

// A link is a connection to the coordinator, as one identity.
type link struct {
	address  string
	identity Identity
	conn     *grpc.ClientConn
	client   federationpb.PartnersClient
	now      func() time.Time
	wrong    atomic.Pointer[galley.Error] // the server is another one
}

// newLink makes a connection, which is opened by the first call.
func newLink(m Membership, i Identity, now func() time.Time, dial []grpc.DialOption) (*link, error) {
	l := &link{address: m.Coordinator, identity: i, now: now}
	conn, err := grpc.NewClient(m.Coordinator, append([]grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(l.config(m))),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithMaxHeaderListSize(maxHeaders),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
		// How often it is tried is for the agent to say.
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(),
		grpc.WithUserAgent(agentName),
	}, dial...)...)
	if err != nil {
		return nil, galley.Errorf(galley.InvalidArgument, m.Coordinator, "is not an address: %w", err)
	}
	l.conn, l.client = conn, federationpb.NewPartnersClient(conn)
	return l, nil
}

// close ends the connection with all calls over it.
func (l *link) close() { _ = l.conn.Close() }

// config shows the identity, whatever the server says it wants, and takes no
// other server than the one that was joined.
func (l *link) config(m Membership) *tls.Config {
	c := &tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return l.identity.tls(), nil },
	}
	if m.Pinned {
		// Who a pinned certificate is of was settled by who handed it over: its
		// names and its days say nothing more.
		c.InsecureSkipVerify = true
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) > 0 && bytes.Equal(s.PeerCertificates[0].Raw, m.server[0].Raw) {
				return nil
			}
			return l.refuse(s.PeerCertificates, "is another")
		}
		return c
	}
	roots := x509.NewCertPool()
	for _, ca := range m.server {
		roots.AddCert(ca)
	}
	c.InsecureSkipVerify = true // for words of our own: VerifyConnection verifies
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return l.refuse(nil, "is missing")
		}
		between := x509.NewCertPool()
		for _, cert := range s.PeerCertificates[1:] {
			between.AddCert(cert)
		}
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: s.ServerName, CurrentTime: l.now()})
		if err != nil {
			return l.refuse(s.PeerCertificates, "does not come from the CA that was joined with: "+printable(err.Error()))
		}
		return nil
	}
	return c
}

func (l *link) refuse(shown []*x509.Certificate, why string) error {
	var got galley.Digest
	if len(shown) > 0 {
		got = galley.DigestBytes(shown[0].Raw)
	}
	e := wrongServer(l.address, got, why)
	l.wrong.Store(e)
	return e
}

// hello agrees on the version of the protocol, and hears whether the
// coordinator takes the caller for who it is.
func (l *link) hello(ctx context.Context, version string) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	r, err := l.client.Hello(ctx, &federationpb.HelloRequest{Protocols: []int32{federation.Protocol}, Agent: agentName + " " + version})
	if err != nil {
		return l.explain(err)
	}
	if r.GetProtocol() != federation.Protocol {
		return galley.Errorf(galley.Unimplemented, l.address, "the coordinator speaks version %d of the protocol, this agent %d", r.GetProtocol(), federation.Protocol).
			WithRemedy("run the same release of galley on both sides")
	}
	if r.GetPartner() != l.identity.Partner {
		return galley.Errorf(galley.FailedPrecondition, l.address, "the coordinator takes this agent for %q, and its certificate is of %q", printable(r.GetPartner()), l.identity.Partner).
			WithRemedy("ask the coordinator's operator under which name the certificate was enrolled")
	}
	return nil
}

// join hands the agreement over, once it is written down.
func (l *link) join(ctx context.Context, h *home, m Membership) (Membership, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	err := h.note(Sent{At: l.now().UTC(), What: SentAgreement, Federation: m.Terms.Federation, Digest: m.Agreement, Bytes: int64(len(m.file))})
	if err != nil {
		return m, err
	}
	r, err := l.client.Join(ctx, &federationpb.JoinRequest{Agreement: m.file})
	if err != nil {
		return m, l.explain(err)
	}
	if galley.Digest(r.GetAgreement()) != m.Agreement || r.GetFederation() != m.Terms.Federation {
		return m, galley.Errorf(galley.FailedPrecondition, "agreement", "the coordinator read it as %s for %q; it is %s for %q",
			galley.Clip(printable(r.GetAgreement()), 80), galley.Clip(printable(r.GetFederation()), 80), m.Agreement, m.Terms.Federation).
			WithRemedy("run the same release of galley on both sides")
	}
	m.Handed = Handed{m.Agreement, l.identity.Fingerprint()}
	return m, nil
}

// Join takes part in a federation: the agreement is handed to the coordinator,
// and the home keeps what was agreed with whom. A home that has joined another
// coordinator, or by another agreement, joins anew; what was answered stays
// counted.
func Join(ctx context.Context, dir string, j Joining, version string, now func() time.Time) (_ Membership, err error) {
	m, err := j.membership()
	if err != nil {
		return m, err
	}
	h, err := openHome(dir)
	if err != nil {
		return m, err
	}
	defer func() {
		if closed := h.close(); err == nil {
			err = closed
		}
	}()
	i, err := h.identity()
	if err != nil {
		return m, err
	}
	if i.Partner != m.Terms.Partner {
		return m, galley.Errorf(galley.FailedPrecondition, "agreement.partner", "is %q, and the key in this home is of %q", m.Terms.Partner, i.Partner).
			WithRemedy("write the name that the certificate has, or join from that partner's home")
	}
	if !now().Before(m.Terms.Expires) {
		return m, galley.Errorf(galley.FailedPrecondition, "agreement.expires", "has ended at %s", m.Terms.Expires.UTC().Format(time.RFC3339)).
			WithRemedy("write a new agreement")
	}
	l, err := newLink(m, i, now, j.Dial)
	if err != nil {
		return m, err
	}
	defer l.close()
	if err := l.hello(ctx, version); err != nil {
		return m, err
	}
	if m, err = l.join(ctx, h, m); err != nil {
		return m, err
	}
	return m, h.keepMembership(m)
}

// identity reads the home's present identity.
func (h *home) identity() (i Identity, err error) {
	err = withIdentities(h.dir, func() error {
		i, err = loadIdentity(h.dir)
		return err
	})
	return i, err
}

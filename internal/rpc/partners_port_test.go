package rpc

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	federationpb "galley/api/federation/v1"

	"galley/internal/auth"
	"galley/internal/blob"
	"galley/internal/control"
	"galley/internal/store/sqlite"
)

// A port is a partners' port over a home.
type port struct {
	store    *sqlite.Store
	blobs    *blob.Store
	control  *control.Control
	server   *PartnersServer
	metrics  *Metrics
	address  string
	identity tls.Certificate
	log      *lockedBuffer

	mu  sync.Mutex
	now time.Time // by the port's clock
}

// A lockedBuffer is written by several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newPort opens a port; change sets its times before it serves.
func newPort(t testing.TB, options control.Options, change func(*PartnersServer), more ...grpc.ServerOption) *port {
	t.Helper()
	home := t.TempDir()
	p := &port{now: time.Now(), log: &lockedBuffer{}, metrics: NewMetrics()}
	var err error
	if p.store, err = sqlite.Open(t.Context(), home); err != nil {
		t.Fatal(err)
	}
	if p.blobs, err = blob.Open(filepath.Join(home, "blobs"), blob.Options{}); err != nil {
		t.Fatal(err)
	}
	options.Home, options.Store, options.Blobs, options.Logger = home, p.store, p.blobs, quiet()
	if options.Launcher == nil {
		options.Launcher = refuser{}
	}
	if p.control, err = control.Open(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		p.control.Run(ctx)
	}()
	clock := auth.NewClock(func() time.Time {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.now
	}, func() time.Duration { return 0 })
	tokens, err := control.OpenTokens(t.Context(), p.store, clock)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(p.log, nil))
	p.identity, _ = certify(t, "coordinator", p.now, p.now.Add(time.Hour))
	p.server = NewPartnersServer(p.control, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &p.identity, nil }, NewAccess(tokens, log), log, more...)
	p.server.sweep = 20 * time.Millisecond
	if change != nil {
		change(p.server)
	}
	p.metrics.WatchPartners(p.server)
	l := listenLocal(t, MaxConnections)
	p.address = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- p.server.Serve(l) }()
	t.Cleanup(func() {
		p.control.Drain()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		p.server.Shutdown(ctx)
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
		stop()
		<-ran
		if err := errors.Join(p.control.Close(context.Background()), p.store.Close()); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *port) set(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = now
}

// certify makes a key with a certificate of its own, as galley partner keygen
// does.
func certify(t testing.TB, name string, from, until time.Time) (tls.Certificate, []byte) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// enrol makes a partner and takes it in.
func (p *port) enrol(t testing.TB, name string) tls.Certificate {
	t.Helper()
	cert, text := certify(t, name, time.Now().Add(-time.Minute), time.Now().Add(24*time.Hour))
	if _, err := p.control.EnrolPartner(t.Context(), "test", name, text, false); err != nil {
		t.Fatal(err)
	}
	return cert
}

// trust is how an agent connects: it knows the server by its certificate alone.
func (p *port) trust(shown ...tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: shown, InsecureSkipVerify: true, NextProtos: []string{"h2"},
		VerifyConnection: func(state tls.ConnectionState) error {
			if !bytes.Equal(state.PeerCertificates[0].Raw, p.identity.Certificate[0]) {
				return errors.New("another server")
			}
			return nil
		},
	}
}

// conn connects with a certificate.
func (p *port) conn(t testing.TB, shown []tls.Certificate, more ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(p.address, append(more, grpc.WithTransportCredentials(credentials.NewTLS(p.trust(shown...))))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func (p *port) dial(t testing.TB, shown ...tls.Certificate) federationpb.PartnersClient {
	t.Helper()
	return federationpb.NewPartnersClient(p.conn(t, shown))
}

// raw connects below gRPC.
func (p *port) raw(t testing.TB, shown ...tls.Certificate) *tls.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return tls.Client(c, p.trust(shown...))
}

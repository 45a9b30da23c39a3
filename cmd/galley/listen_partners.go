package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"galley"
	"galley/internal/control"
	"galley/internal/durable"
	"galley/internal/rpc"
)

// listenForPartners makes p's server for partners' agents and opens its
// address, and says by which certificate agents know it; nil if there is to be
// none.
func (a *app) listenForPartners(at endpoints, p *platform, log *slog.Logger) (net.Listener, error) {
	if at.partners == "" {
		return nil, nil
	}
	if os.Getenv("GOGC") == "" {
		// Updates pass through; what they leave behind is not to pile up to as much
		// again as a hundred partners' connections hold.
		debug.SetGCPercent(50)
	}
	cert, key := a.protection.cert, a.protection.key
	if cert == "" {
		var err error
		if cert, key, err = ownIdentity(a.home, time.Now()); err != nil {
			return nil, err
		}
	}
	identity, err := openCertificate(cert, key, "", log)
	if err != nil {
		return nil, err
	}
	shown := func() *tls.Certificate { return &identity.current(time.Now()).Certificates[0] }
	l, err := endpoint{"partners", "--partners", at.partners}.listen()
	if err != nil {
		return nil, err
	}
	p.partners = rpc.NewPartnersServer(p.control, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return shown(), nil }, p.access, log, a.overhear...)
	p.figures.WatchPartners(p.partners)
	fmt.Fprintf(a.err, "partners know the server by %s  %s\n", cert, galley.DigestBytes(shown().Certificate[0]))
	return l, nil
}

// identityYears is how long a certificate of the server's own is valid. It is
// pinned by who has it, so that a change of it is one at each partner.
const identityYears = 10

// ownIdentity returns the paths of the certificate and the key that the server
// shows partners' agents, in its home. It makes them once.
func ownIdentity(home string, now time.Time) (cert, key string, err error) {
	dir := filepath.Join(home, control.PartnersFolder)
	cert, key = filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	if _, err := os.Stat(cert); err == nil {
		if _, err := os.Stat(key); errors.Is(err, fs.ErrNotExist) {
			return "", "", galley.Errorf(galley.FailedPrecondition, key, "is not there, and partners know the server by %s", cert).
				WithRemedy("put the key back, or remove the certificate: another is made, which each partner must be given")
		}
		return cert, key, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", "", fileError(cert, err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "galley coordinator"},
		// Partners' clocks may be behind.
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(identityYears, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		return "", "", err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", durable.WriteError(dir, err)
	}
	// The certificate last: it is handed out, and is nothing without the key.
	for _, file := range []struct {
		path  string
		block *pem.Block
	}{{key, &pem.Block{Type: "PRIVATE KEY", Bytes: secret}}, {cert, &pem.Block{Type: "CERTIFICATE", Bytes: der}}} {
		if err := durable.Write(file.path, 0o600, pem.EncodeToMemory(file.block)); err != nil {
			return "", "", err
		}
	}
	return cert, key, nil
}

package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	federationpb "galley/api/federation/v1"

	"galley"
)

// partnerCertificate makes a key with a certificate of its own, valid for a
// day.
func partnerCertificate(name string) (tls.Certificate, []byte, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// certify NAME FILE: the file has a certificate of the partner's.
func certify(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: certify NAME FILE")
	}
	_, text, err := partnerCertificate(args[0])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), text, 0o600))
}

// The server's certificate for partners is made once, for its owner alone.
func TestOwnIdentity(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "partners")
	cert, key, err := ownIdentity(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	made, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{cert, key} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if years := time.Until(pair.Leaf.NotAfter).Hours() / 24 / 365; years < 9.9 || years > 10.1 {
		t.Errorf("valid for %.1f years", years)
	}
	if _, _, err := ownIdentity(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(cert); err != nil || !bytes.Equal(again, made) {
		t.Errorf("the second start makes another: %v", err)
	}
	// A start that was killed before the certificate was there begins anew; one
	// whose key was lost does not.
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ownIdentity(dir, time.Now()); err != nil {
		t.Error(err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ownIdentity(dir, time.Now()); galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), key) {
		t.Errorf("without the key: %v", err)
	}
}

// Partners are shown the certificate of all ports, where there is one, and the
// next one once it is there.
func TestPartnersAreShownTheGivenCertificate(t *testing.T) {
	ca := newAuthority(t)
	a := newApp(nil, io.Discard, io.Discard, func(string) (string, bool) { return "", false })
	a.home = filepath.Join(t.TempDir(), "home")
	a.protection.cert, a.protection.key = ca.issue(t, "server", 10)
	p, err := a.openPlatform(t.Context(), ports{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := a.listenForPartners(endpoints{partners: "127.0.0.1:0"}, p, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- p.partners.Serve(l) }()
	shown := func() (number int64) {
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, VerifyConnection: func(s tls.ConnectionState) error {
			number = s.PeerCertificates[0].SerialNumber.Int64()
			return nil
		}})
		if err == nil {
			c.Close()
		}
		return number
	}
	if n := shown(); n != 10 {
		t.Errorf("serial %d", n)
	}
	ca.issue(t, "server", 11)
	for begun := time.Now(); shown() != 11; time.Sleep(100 * time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("the renewed certificate is not shown")
		}
	}
	if err := p.drain(t.Context()); err != nil {
		t.Error(err)
	}
	<-served
	if _, err := os.Stat(filepath.Join(a.home, "partners")); err == nil {
		t.Error("another one was made")
	}
}

// A server with a port for partners beside ports on loopback without tokens:
// enrolled over the one, a partner is let in over the other, until it is revoked.
func TestUpWithPartners(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	env := map[string]string{"GALLEY_HOME": home}
	get := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	command := func(args ...string) (int, string, string) {
		var out, errOut bytes.Buffer
		code := run(t.Context(), args, nil, &out, &errOut, get)
		return code, out.String(), errOut.String()
	}
	var said lockedBuffer
	var wire overheard
	a := newApp(nil, io.Discard, &said, get)
	a.overhear = wire.server()
	ctx, stop := context.WithCancel(t.Context())
	listen := anyPorts
	listen.partners = "0.0.0.0:0"
	ready, ended := make(chan endpoints, 1), make(chan error, 1)
	go func() { ended <- a.up(ctx, listen, func(at endpoints) { ready <- at }) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	var at endpoints
	select {
	case at = <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	env["GALLEY_SERVER"] = at.grpc
	server, err := tls.LoadX509KeyPair(filepath.Join(home, "partners", "server.crt"), filepath.Join(home, "partners", "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{" partners=" + at.partners, filepath.Join(home, "partners", "server.crt"), string(galley.DigestBytes(server.Certificate[0]))} {
		if !strings.Contains(said.String(), part) {
			t.Errorf("galley up does not say %s:\n%s", part, said.String())
		}
	}
	shown, text, err := partnerCertificate("harbour-gazette")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "partner.crt")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errOut := command("federation", "enrol", "harbour-gazette", "--cert", file, "-o", "json")
	var enrolled enrolledPartner
	if err := json.Unmarshal([]byte(out), &enrolled); code != exitOK || err != nil || enrolled.Fingerprint != string(galley.DigestBytes(shown.Certificate[0])) {
		t.Fatalf("%d, %s%s", code, out, errOut)
	}
	conn, err := grpc.NewClient(strings.Replace(at.partners, "[::]", "127.0.0.1", 1), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{shown}, InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if !bytes.Equal(state.PeerCertificates[0].Raw, server.Certificate[0]) {
				return errors.New("another server")
			}
			return nil
		},
	})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	agent := federationpb.NewPartnersClient(conn)
	hello := &federationpb.HelloRequest{Protocols: []int32{1}, Agent: "an agent of a test"}
	hello.ProtoReflect().SetUnknown([]byte("\xfa\x07\x11a hidden headline"))
	if r, err := agent.Hello(t.Context(), hello); err != nil || r.GetPartner() != "harbour-gazette" {
		t.Fatalf("%v, %v", r, err)
	}
	if code, out, errOut := command("federation", "revoke", "harbour-gazette", "--reason", "left"); code != exitOK {
		t.Fatalf("%d, %s%s", code, out, errOut)
	}
	if r, err := agent.Hello(t.Context(), hello); err == nil {
		t.Errorf("revoked: %v", r)
	}
	// What the recorder of whole runs hears.
	heard := string(wire.text())
	for _, text := range []string{"an agent of a test", "harbour-gazette", "/galley.federation.v1.Partners/Hello", "a hidden headline"} {
		if !strings.Contains(heard, text) {
			t.Errorf("%q was not overheard", text)
		}
	}
	if strings.Contains(heard, "Central bank holds rates") {
		t.Error("what nobody said was overheard")
	}
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

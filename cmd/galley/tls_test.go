package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"galley"
	"galley/internal/auth"
)

// An authority signs certificates of tests.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.key = newKey(t)
	a.cert = a.write(t, "ca", &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}, a.key)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue writes NAME.pem and NAME.key, for this machine.
func (a *authority) issue(t *testing.T, name string, serial int64) (cert, key string) {
	t.Helper()
	a.write(t, name, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, newKey(t))
	return a.path(name + ".pem"), a.path(name + ".key")
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(t *testing.T, name string, template *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent := a.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(a.path(file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// serials is a connection's server certificate.
func serial(t *testing.T, address, ca string) int64 {
	t.Helper()
	roots, err := readAuthorities("ca", ca)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// A renewed certificate is taken without a restart; a broken one is not.
func TestCertificateIsReadAgain(t *testing.T) {
	ca := newAuthority(t)
	certFile, keyFile := ca.issue(t, "server", 10)
	c, err := openCertificate(certFile, keyFile, "", slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	now := func() int64 {
		at = at.Add(2 * checkEvery)
		leaf, err := x509.ParseCertificate(c.current(at).Certificates[0].Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.SerialNumber.Int64()
	}
	if n := now(); n != 10 {
		t.Errorf("serial %d", n)
	}
	whole, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range [][]byte{nil, []byte("no key"), whole[:40]} {
		if err := os.WriteFile(keyFile, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		if n := now(); n != 10 {
			t.Errorf("serial %d beside a broken key", n)
		}
	}
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	if n := now(); n != 10 {
		t.Errorf("serial %d without a key", n)
	}
	ca.issue(t, "server", 11)
	if n := now(); n != 11 {
		t.Errorf("serial %d after a renewal", n)
	}
	// Between two looks, nothing is read; a clock that jumps back does not
	// stop the looking.
	ca.issue(t, "server", 12)
	at = at.Add(-2 * checkEvery)
	if n := now(); n != 11 {
		t.Errorf("serial %d at once", n)
	}
	at = at.Add(-time.Hour)
	if n := now(); n != 12 {
		t.Errorf("serial %d after the clock jumped back", n)
	}
}

func TestCertificateRefused(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue(t, "server", 10)
	other, _ := ca.issue(t, "other", 11)
	for what, files := range map[string][3]string{
		"absent": {ca.path("absent"), key, ""}, "another's key": {other, key, ""}, "a key as certificate": {key, key, ""},
		"no CA in the file": {cert, key, key}, "an absent CA": {cert, key, ca.path("absent")},
	} {
		if _, err := openCertificate(files[0], files[1], files[2], nil); err == nil || galley.CodeOf(err) == galley.Unknown {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestTransport(t *testing.T) {
	ca := newAuthority(t)
	for _, tt := range []struct {
		server string
		id     identity
		want   string // address, or a part of the error
		ok     bool
	}{
		{"localhost:8001", identity{}, "localhost:8001", true},
		{"localhost:8001", identity{token: "t"}, "localhost:8001", true},
		{"[::1]:8001", identity{token: "t"}, "[::1]:8001", true},
		{"https://galley.example.org:8001/", identity{token: "t"}, "galley.example.org:8001", true},
		{"galley.example.org:8001", identity{token: "t"}, "galley.example.org:8001", true},
		{"https://localhost:8001", identity{ca: ca.path("ca.pem")}, "localhost:8001", true},
		{"http://10.0.0.1:8001", identity{}, "10.0.0.1:8001", true},
		{"http://10.0.0.1:8001", identity{token: "t"}, "does not go to another machine in plain text", false},
		{"http://localhost.example.org:8001", identity{token: "t"}, "https://localhost.example.org:8001", false},
		{"localhost:8001", identity{token: "a\nb"}, "GALLEY_TOKEN", false},
		{"localhost:8001", identity{token: "a b"}, "GALLEY_TOKEN", false},
		{"10.0.0.1:8001", identity{ca: ca.path("absent")}, "absent", false},
		{"10.0.0.1:8001", identity{ca: ca.path("ca.key")}, "GALLEY_CA", false},
		{"10.0.0.1:8001", identity{cert: ca.path("ca.pem")}, "GALLEY_CERT", false},
	} {
		address, _, err := tt.id.transport(tt.server)
		if tt.ok && (address != tt.want || err != nil) || !tt.ok && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %s, %v", tt.server, address, err)
		}
	}
}

// A server with TLS and tokens on all ports, on one machine: who has the
// right token gets in over gRPC and HTTP, and nobody else.
func TestUpWithTLS(t *testing.T) {
	ca := newAuthority(t)
	certFile, keyFile := ca.issue(t, "server", 10)
	home := filepath.Join(t.TempDir(), "home")
	env := map[string]string{"GALLEY_HOME": home}
	command := func(args ...string) (int, string, string) {
		var out, errOut bytes.Buffer
		code := run(t.Context(), args, nil, &out, &errOut, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
		return code, out.String(), errOut.String()
	}
	up := []string{"up", "--listen-http", "0.0.0.0:0", "--listen-grpc", "0.0.0.0:0", "--listen-metrics", "0.0.0.0:0"}
	if code, _, errOut := command(up...); code != exitFailed || !strings.Contains(errOut, "needs TLS and tokens") || !strings.Contains(errOut, "--tls-cert") {
		t.Errorf("without TLS: %d, %s", code, errOut)
	}
	up = append(up, "--tls-cert", certFile, "--tls-key", keyFile)
	if code, _, errOut := command(up...); code != exitFailed || !strings.Contains(errOut, "galley auth token create --role admin --name root --local --home "+home) {
		t.Errorf("without an admin: %d, %s", code, errOut)
	}
	var root tokenInfo
	code, out, errOut := command("auth", "token", "create", "--role", "admin", "--name", "root", "--local", "-o", "json")
	if err := json.Unmarshal([]byte(out), &root); code != exitOK || err != nil || !strings.HasPrefix(root.Token, "glt_") {
		t.Fatalf("%d, %s, %s", code, out, errOut)
	}

	ctx, stop := context.WithCancel(t.Context())
	a := newApp(nil, io.Discard, io.Discard, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	a.protection = protection{cert: certFile, key: keyFile}
	ready, ended := make(chan endpoints, 1), make(chan error, 1)
	outside := endpoints{http: "0.0.0.0:0", grpc: "0.0.0.0:0", metrics: "0.0.0.0:0"}
	go func() { ended <- a.up(ctx, outside, func(at endpoints) { ready <- at }) }()
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
	here := func(address string) string {
		_, port, _ := net.SplitHostPort(address)
		return "localhost:" + port
	}
	if n := serial(t, here(at.grpc), ca.path("ca.pem")); n != 10 {
		t.Errorf("serial %d", n)
	}
	env["GALLEY_SERVER"] = "https://" + here(at.grpc)
	expect := func(what string, want int, part string, args ...string) string {
		t.Helper()
		code, out, errOut := command(args...)
		if code != want || !strings.Contains(out+errOut, part) {
			t.Errorf("%s: %d, %s%s", what, code, out, errOut)
		}
		return out
	}
	expect("an unknown CA", exitFailed, "set GALLEY_CA", "jobs", "list")
	env["GALLEY_SERVER"] = "http://" + here(at.grpc)
	expect("plain text", exitFailed, "https://HOST:PORT", "jobs", "list")
	env["GALLEY_SERVER"] = here(at.grpc)
	env["GALLEY_CA"] = ca.path("ca.pem")
	expect("no token", exitFailed, "set GALLEY_TOKEN", "jobs", "list")
	env["GALLEY_TOKEN"] = root.Token
	expect("the admin", exitOK, "jobs", "jobs", "list", "-o", "json")
	expect("a list", exitOK, root.ID, "auth", "token", "list")

	var cms, next tokenInfo
	made := expect("a token", exitOK, "glt_", "auth", "token", "create", "--role", "application", "--name", "cms", "--tenant", "archive", "--expires", "1d", "-o", "json")
	if err := json.Unmarshal([]byte(made), &cms); err != nil {
		t.Fatal(err)
	}
	expect("the same name", exitFailed, "the token "+cms.ID+" has this name", "auth", "token", "create", "--role", "viewer", "--name", "cms")
	rotated := expect("rotation", exitOK, "glt_", "auth", "token", "rotate", cms.ID, "--overlap", "0s", "-o", "json")
	if err := json.Unmarshal([]byte(rotated), &next); err != nil || next.Replaces != cms.ID || next.Tenant != "archive" {
		t.Fatalf("%+v, %v", next, err)
	}
	env["GALLEY_TOKEN"] = cms.Token
	expect("a rotated token", exitFailed, "expired", "models", "list")
	env["GALLEY_TOKEN"] = next.Token
	expect("an application", exitFailed, "viewer", "models", "list")
	env["GALLEY_TOKEN"] = root.Token
	expect("revoking", exitOK, next.ID, "auth", "token", "revoke", next.ID)
	expect("usage", exitUsage, "90d", "auth", "token", "create", "--role", "viewer", "--expires", "soon")
	expect("a role that is none", exitFailed, "choose viewer", "auth", "token", "create", "--role", "king")

	// The same over HTTP, and metrics.
	roots, err := readAuthorities("ca", ca.path("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	defer browser.CloseIdleConnections()
	for _, tt := range []struct {
		address, path, token string
		status               int
	}{
		{at.http, "/v2/health/ready", "", 200}, {at.http, "/v2", "", 401}, {at.http, "/v2", root.Token, 200},
		{at.http, "/v2", next.Token, 401}, {at.http, "/v1/jobs", "", 401}, {at.http, "/v1/jobs", root.Token, 200}, {at.http, "/nope", "", 401},
		{at.metrics, "/metrics", "", 401}, {at.metrics, "/metrics", root.Token, 200},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+here(tt.address)+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.token != "" {
			r.Header.Set("Authorization", "Bearer "+tt.token)
		}
		answer, err := browser.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != tt.status || tt.status == 401 && (answer.Header.Get("WWW-Authenticate") == "" || !bytes.Contains(body, []byte("token"))) {
			t.Errorf("%s: %d %s", tt.path, answer.StatusCode, body)
		}
	}
}

// What the program serves is in the table of access, all of it.
func TestAllMethodsAreListed(t *testing.T) {
	a := newApp(nil, io.Discard, io.Discard, func(string) (string, bool) { return "", false })
	a.home = filepath.Join(t.TempDir(), "home")
	p, err := a.openPlatform(t.Context(), ports{}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer p.drain(t.Context())
	methods := p.server.Methods()
	if len(methods) < 60 {
		t.Errorf("%d methods", len(methods))
	}
	for _, method := range methods {
		if _, ok := auth.OfMethod(method); !ok {
			t.Errorf("%s is not in the table of internal/auth", method)
		}
	}
}

// A server that asks clients for certificates lets only those of its CA in.
func TestClientCertificates(t *testing.T) {
	ca, strangers := newAuthority(t), newAuthority(t)
	certFile, keyFile := ca.issue(t, "server", 10)
	p := protection{cert: certFile, key: keyFile, clientCA: ca.path("ca.pem")}
	env := map[string]string{"GALLEY_HOME": filepath.Join(t.TempDir(), "home"), "GALLEY_CA": ca.path("ca.pem")}
	get := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	a := newApp(nil, io.Discard, io.Discard, get)
	a.protection = p
	ctx, stop := context.WithCancel(t.Context())
	ready, ended := make(chan endpoints, 1), make(chan error, 1)
	go func() { ended <- a.up(ctx, anyPorts, func(at endpoints) { ready <- at }) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	select {
	case at := <-ready:
		env["GALLEY_SERVER"] = at.grpc
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		from *authority
		code int
		part string
	}{"none": {nil, exitFailed, "GALLEY_CERT"}, "a stranger's": {strangers, exitFailed, "GALLEY_CERT"}, "one of the CA's": {ca, exitOK, ""}} {
		delete(env, "GALLEY_CERT")
		delete(env, "GALLEY_KEY")
		if tt.from != nil {
			env["GALLEY_CERT"], env["GALLEY_KEY"] = tt.from.issue(t, "client", 20)
		}
		var out, errOut bytes.Buffer
		if code := run(t.Context(), []string{"jobs", "list"}, nil, &out, &errOut, get); code != tt.code || !strings.Contains(errOut.String(), tt.part) {
			t.Errorf("%s: %d, %s", what, code, errOut.String())
		}
	}
}

package rpc

import (
	"crypto/tls"
	"io"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	federationpb "galley/api/federation/v1"
	inferencepb "galley/api/inference/v2"

	"galley/internal/control"
)

func hello() *federationpb.HelloRequest {
	return &federationpb.HelloRequest{Protocols: []int32{1}, Agent: "galley test"}
}

// Who may connect, and what those see who may not. Each reason is in the log,
// for the operator whom a partner asks.
func TestPartnersHandshake(t *testing.T) {
	p := newPort(t, control.Options{}, nil)
	known := p.enrol(t, "harbour-gazette")
	revoked := p.enrol(t, "revoked-times")
	if _, err := p.control.RevokePartner(t.Context(), "test", "revoked-times", "left"); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	stranger, _ := certify(t, "harbour-gazette", now, now.Add(time.Hour))
	thief := tls.Certificate{Certificate: known.Certificate, PrivateKey: stranger.PrivateKey}
	for _, tt := range []struct {
		what  string
		shown []tls.Certificate
		at    time.Time // by the port's clock
		want  string    // of the client's error; "" if it is let in
		log   string
	}{
		{"a partner", []tls.Certificate{known}, now, "", ""},
		{"none", nil, now, "tls: certificate required", "didn't provide a certificate"},
		{"unknown, with a partner's name", []tls.Certificate{stranger}, now, "tls: bad certificate", "enrol"},
		{"another's, without its key", []tls.Certificate{thief}, now, "tls: ", "signature"},
		{"revoked", []tls.Certificate{revoked}, now, "tls: bad certificate", "revoked"},
		{"expired", []tls.Certificate{known}, now.Add(25 * time.Hour), "tls: bad certificate", "expired"},
		{"a clock that is behind", []tls.Certificate{known}, now.Add(-50 * time.Minute), "", ""},
		{"not yet valid", []tls.Certificate{known}, now.Add(-2 * time.Hour), "tls: bad certificate", "valid"},
	} {
		p.set(tt.at)
		before := len(p.log.String())
		r, err := p.dial(t, tt.shown...).Hello(t.Context(), hello())
		if tt.want == "" {
			if err != nil || r.GetPartner() != "harbour-gazette" || r.GetProtocol() != 1 {
				t.Errorf("%s: %v, %v", tt.what, r, err)
			}
			continue
		}
		// How the end of a connection reaches the client depends on who is quicker.
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), tt.want) && !strings.Contains(err.Error(), "connection reset") && !strings.Contains(err.Error(), "broken pipe") {
			t.Errorf("%s: %v", tt.what, err)
		}
		waitFor(t, tt.what+" in the log", func() bool {
			said := p.log.String()[before:]
			return strings.Contains(said, "refused") && strings.Contains(said, tt.log)
		})
	}
	w := httptest.NewRecorder()
	p.metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, part := range []string{
		`galley_partner_connections_refused{reason="handshake"}`, `galley_partner_connections_refused{reason="refused"}`,
		`galley_partner_connections_refused{reason="unauthenticated"}`, `galley_partner_bytes{direction="in"}`, "galley_partner_connections ",
	} {
		if !strings.Contains(w.Body.String(), part) {
			t.Errorf("the metrics lack %s", part)
		}
	}
}

// Plain text and older TLS are not spoken, and nothing else is served.
func TestPartnersPortServesPartnersAlone(t *testing.T) {
	p := newPort(t, control.Options{}, nil)
	cert := p.enrol(t, "harbour-gazette")
	old := p.trust(cert)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for what, transport := range map[string]credentials.TransportCredentials{"plain text": insecure.NewCredentials(), "TLS 1.2": credentials.NewTLS(old)} {
		conn, err := grpc.NewClient(p.address, grpc.WithTransportCredentials(transport))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := federationpb.NewPartnersClient(conn).Hello(t.Context(), hello()); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", what, err)
		}
		conn.Close()
	}
	for service := range p.server.grpc.GetServiceInfo() {
		if service != federationpb.Partners_ServiceDesc.ServiceName {
			t.Errorf("the port serves %s", service)
		}
	}
	if _, err := inferencepb.NewGRPCInferenceServiceClient(p.conn(t, []tls.Certificate{cert})).ServerLive(t.Context(), &inferencepb.ServerLiveRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("inference: %v", err)
	}
}

// Who loses access, or has another certificate, loses connections and streams.
func TestPartnersConnectionsEndWithTheirCertificate(t *testing.T) {
	p := newPort(t, control.Options{}, nil)
	for what, end := range map[string]func(name string) error{
		"revoked": func(name string) error {
			_, err := p.control.RevokePartner(t.Context(), "test", name, "left")
			return err
		},
		"replaced": func(name string) error {
			_, text := certify(t, name, time.Now(), time.Now().Add(time.Hour))
			_, err := p.control.EnrolPartner(t.Context(), "test", name, text, true)
			return err
		},
		"expired": func(string) error {
			p.set(time.Now().Add(48 * time.Hour))
			return nil
		},
	} {
		p.set(time.Now())
		name := "the-" + what
		c := p.raw(t, p.enrol(t, name))
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		// An HTTP/2 client that waits.
		if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
			t.Fatal(err)
		}
		waitFor(t, what+" is connected", func() bool { return p.server.conns.count() == 1 })
		if err := end(name); err != nil {
			t.Fatal(err)
		}
		if !closed(c, 5*time.Second) {
			t.Errorf("%s: the connection goes on", what)
		}
		waitFor(t, what+" is let go", func() bool { return p.server.conns.count() == 0 })
		if said := p.log.String(); !strings.Contains(said, "partner="+name) {
			t.Errorf("%s: the log says nothing:\n%s", what, said)
		}
	}
}

// An agent that comes back too often ends its own oldest connection, not
// another's.
func TestPartnersConnectionsAreLimited(t *testing.T) {
	p := newPort(t, control.Options{}, func(s *PartnersServer) { s.conns.most = 2 })
	one, other := p.enrol(t, "one"), p.enrol(t, "other")
	calm := p.dial(t, other)
	if _, err := calm.Hello(t.Context(), hello()); err != nil {
		t.Fatal(err)
	}
	var held []*tls.Conn
	for range 3 {
		c := p.raw(t, one)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		waitFor(t, "a connection", func() bool { return p.server.conns.count() == 1+min(len(held), 2) })
	}
	if !closed(held[0], 5*time.Second) {
		t.Error("the oldest of three goes on")
	}
	if closed(held[2], 100*time.Millisecond) {
		t.Error("the newest of three has ended")
	}
	if _, err := calm.Hello(t.Context(), hello()); err != nil {
		t.Errorf("another partner: %v", err)
	}
}

// A partner's certificate over HTTP: the file as it is.
func TestRESTPartners(t *testing.T) {
	server := newREST(t)
	_, text := certify(t, "harbour-gazette", time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
	_, next := certify(t, "harbour-gazette", time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
	for _, tt := range []struct {
		verb, path, body string
		status           int
		part             string
	}{
		{"PUT", "/v1/partners/harbour-gazette", string(text), 200, `"fingerprint":"sha256:`},
		{"PUT", "/v1/partners/harbour-gazette", string(next), 409, "replace"},
		{"PUT", "/v1/partners/harbour-gazette?replace=true", string(next), 200, `"partner":"harbour-gazette"`},
		{"PUT", "/v1/partners/the-other", string(text), 400, `"subject":"certificate"`},
		{"PUT", "/v1/partners/the-other", `{"certificate":"x"}`, 400, `"subject":"certificate"`},
		{"PUT", "/v1/partners/the-other", strings.Repeat("x", maxCertificate+1), 400, `"subject":"certificate"`},
		{"PUT", "/v1/partners/the-other?certificate=x", string(text), 400, "is the body"},
		{"GET", "/v1/partners", "", 200, `"connected":false`},
		{"POST", "/v1/partners/harbour-gazette/revoke", `{"reason":"left"}`, 200, `"revoked":"left"`},
		{"POST", "/v1/partners/harbour-gazette/reinstate", "", 200, `"revoked":""`},
		{"POST", "/v1/partners/nobody/reinstate", "", 404, "NOT_FOUND"},
		{"GET", "/v1/federations/none", "", 404, "NOT_FOUND"},
		{"GET", "/v1/federations/none/rounds?limit=-1", "", 400, ""},
		{"GET", "/v1/federations/none/rounds/x", "", 400, `"subject":"round"`},
		{"GET", "/v1/agreements/sha256:0", "", 400, `"subject":"digest"`},
	} {
		if status, got := call(t, server, tt.verb, tt.path, tt.body); status != tt.status || !strings.Contains(got, tt.part) {
			t.Errorf("%s %s: %d %s", tt.verb, tt.path, status, got)
		}
	}
}

// A thousand connections that say nothing keep no partner from being answered.
func TestPartnersThousandIdleConnections(t *testing.T) {
	const idle = 1000
	p := newPort(t, control.Options{}, func(s *PartnersServer) { s.conns.most = idle })
	cert := p.enrol(t, "harbour-gazette")
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range idle {
		c := p.raw(t, cert)
		if i%10 != 0 {
			continue // nine of ten do not even begin TLS
		}
		if err := c.Handshake(); err != nil {
			t.Fatalf("after %d: %v", i, err)
		}
	}
	begun := time.Now()
	if _, err := p.dial(t, p.enrol(t, "elsewhere")).Hello(t.Context(), hello()); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("answered after %s", took)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := int64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse) / idle; each > 128<<10 {
		t.Errorf("%d bytes for each idle connection", each)
	}
}

// waitFor waits until something is so.
func waitFor(t testing.TB, what string, so func() bool) {
	t.Helper()
	for begun := time.Now(); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("it never comes to: " + what)
		}
	}
}

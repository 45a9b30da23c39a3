package partner

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/durationpb"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/federation"
)

// A coordinator is the other side: the Partners service over mutual TLS, built
// on package federation. A test makes it lie by its hooks.
type coordinator struct {
	federationpb.UnimplementedPartnersServer
	t       testing.TB
	address string
	crt     []byte // PEM
	cert    tls.Certificate
	server  *grpc.Server
	layout  federation.Layout
	files   []modelFile
	model   string // folder

	mu        sync.Mutex
	f         federation.Federation
	kept      []federation.Round
	shelf     map[galley.Digest][]byte
	enrolled  map[galley.Digest]string // certificate -> partner
	keys      map[string]ed25519.PublicKey
	attending map[string]chan *federationpb.Offer
	verdicts  []federation.Verdict
	headers   []federation.SignedHeader
	uploads   map[galley.Digest][]byte
	declined  []*federationpb.DeclineRequest
	joined    int
	agents    []string // of hellos
	calls     map[string]int
	asks      []*federationpb.AttendRequest

	// Hooks; nil for what an honest coordinator does.
	weights func(*federationpb.FetchWeightsRequest, grpc.ServerStreamingServer[federationpb.WeightsChunk]) error
	fetch   func(grpc.ServerStreamingServer[federationpb.ModelChunk]) error
	upload  func() error // before the header is read
}

func newCoordinator(t testing.TB, change func(*federation.Terms)) *coordinator {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	graph := bundle(t, dir)
	weights, layout, err := exchanged(graph)
	if err != nil {
		t.Fatal(err)
	}
	var base bytes.Buffer
	digest, err := federation.WriteTensors(&base, weights)
	if err != nil {
		t.Fatal(err)
	}
	c := &coordinator{
		t: t, layout: layout, model: dir, shelf: map[galley.Digest][]byte{digest: base.Bytes()}, enrolled: map[galley.Digest]string{},
		keys: map[string]ed25519.PublicKey{}, attending: map[string]chan *federationpb.Offer{}, uploads: map[galley.Digest][]byte{}, calls: map[string]int{},
	}
	for _, name := range modelFiles {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		c.files = append(c.files, modelFile{name, int64(len(data)), galley.DigestBytes(data)})
	}
	of := terms(t, layout)
	if change != nil {
		change(&of)
	}
	if c.f, err = federation.New(of, digest, time.Now()); err != nil {
		t.Fatal(err)
	}
	c.cert, c.crt = serverCertificate(t)
	c.start("127.0.0.1:0")
	t.Cleanup(func() { c.server.Stop() })
	return c
}

func serverCertificate(t testing.TB) (tls.Certificate, []byte) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "coordinator"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, certificatePEM(der)
}

// start serves at an address; after stop, at the same one.
func (c *coordinator) start(address string) {
	c.t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.address = l.Addr().String()
	c.server = grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{c.cert}, ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.enrolled[galley.DigestBytes(s.PeerCertificates[0].Raw)] == "" {
				return errors.New("not enrolled")
			}
			return nil
		},
	})))
	federationpb.RegisterPartnersServer(c.server, c)
	go c.server.Serve(l)
}

// crash ends all connections, and begins again with what was stored.
func (c *coordinator) crash() {
	c.server.Stop()
	c.forget("harbour", "valley")
	c.start(c.address)
}

// forget drops the streams of agents that have gone, before they are noticed to
// have: what is offered then is for the next.
func (c *coordinator) forget(names ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		delete(c.attending, name)
	}
}

func (c *coordinator) enrol(i Identity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for d, name := range c.enrolled {
		if name == i.Partner {
			delete(c.enrolled, d)
		}
	}
	c.enrolled[i.Fingerprint()] = i.Partner
	c.keys[i.Partner] = i.Key.Public().(ed25519.PublicKey)
}

// apply is what a coordinator does with an event and its effects.
func (c *coordinator) apply(e federation.Event) {
	f, effects, err := federation.Advance(c.f, e)
	if err != nil {
		c.t.Errorf("%T: %v", e, err)
		return
	}
	c.f = f
	for _, effect := range effects {
		switch e := effect.(type) {
		case federation.Announce:
			c.announce(e.Partners...)
		case federation.KeepRound:
			c.kept = append(c.kept, e.Round)
		case federation.StartAggregation:
			var out bytes.Buffer
			digest, err := federation.Aggregate(&out, c.layout, bytes.NewReader(c.shelf[e.Base]), e.Parts, func(d galley.Digest) (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(c.uploads[d])), nil
			})
			if err != nil {
				c.t.Error(err)
			}
			c.shelf[digest] = out.Bytes()
			c.apply(federation.Aggregated{At: time.Now(), Round: e.Round, Attempt: e.Attempt, Ordinal: e.Ordinal, Aggregate: digest})
		}
	}
}

func (c *coordinator) announce(names ...string) {
	for _, name := range names {
		if c.f.Round == nil || c.attending[name] == nil {
			continue
		}
		if o, ok := c.f.Round.Offer(name, time.Now()); ok {
			c.attending[name] <- message(o)
		}
	}
}

// tick lets time pass.
func (c *coordinator) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.apply(federation.Ticked{At: time.Now(), Present: slices.Sorted(maps.Keys(c.attending))})
}

// offer sends an offer that no honest round has.
func (c *coordinator) offer(partner string, o *federationpb.Offer) {
	c.t.Helper()
	eventually(c.t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.attending[partner] == nil {
			return false
		}
		c.attending[partner] <- o
		return true
	}, func() string { return partner + " does not attend" })
}

// honest is an offer as a round would make it.
func (c *coordinator) honest(partner string, round, attempt int) *federationpb.Offer {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, _ := federation.ParseAgreement(agreementText(partner))
	t := c.f.Terms
	return message(federation.Offer{
		Protocol: federation.Protocol, Federation: t.Federation, Run: t.Run, Round: round, Attempt: attempt, Partner: partner, Agreement: a.Digest(),
		Purpose: t.Purpose, Model: t.Model, Base: c.f.Base, MinCohort: t.MinCohort, Strategy: t.Strategy, Weighting: t.Weighting, Metrics: t.Metrics,
		Recipe: t.Recipe, Within: t.Within,
	})
}

func message(o federation.Offer) *federationpb.Offer {
	return &federationpb.Offer{
		Protocol: int32(o.Protocol), Federation: o.Federation, Run: o.Run, Round: int32(o.Round), Attempt: int32(o.Attempt), Partner: o.Partner,
		Agreement: string(o.Agreement), Purpose: o.Purpose, Model: o.Model, Base: string(o.Base), MinCohort: int32(o.MinCohort),
		Strategy: string(o.Strategy), Mu: o.Mu, Clip: o.Clip, Weighting: string(o.Weighting), Metrics: o.Metrics, Within: durationpb.New(o.Within), Recipe: o.Recipe,
	}
}

// stateOf reads the coordinator's state.
func stateOf[T any](c *coordinator, read func() T) T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return read()
}

// waitFor waits for a state of the coordinator's.
func (c *coordinator) waitFor(what string, ok func() bool) {
	c.t.Helper()
	eventually(c.t, func() bool { return stateOf(c, ok) }, func() string {
		c.mu.Lock()
		defer c.mu.Unlock()
		state, _ := json.MarshalIndent(c.f, "", " ")
		return what + " did not come; verdicts " + string(mustJSON(c.verdicts)) + ", declined " + string(mustJSON(c.declined)) + "\n" + string(state)
	})
}

func mustJSON(v any) []byte { data, _ := json.Marshal(v); return data }

package control

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"galley"
	"galley/federation"
	"galley/internal/durable"
	"galley/trainer"
)

const federationFile = "apiVersion: galley/v1\nkind: Federate\nname: joint\nfrom: topic@1\nfederation: topics\npurpose: topics of headlines\n" +
	"data: {dataset: news}\nrounds: 3\nmin_cohort: 2\ndeadline: 20s\npause: 0s\nmax_share: 1\nmetrics: [loss]\n"

// An agent is a partner's, in this process: it trains by a function that can be
// computed again, and keeps what it signed in a folder.
type agent struct {
	c    *Control
	name string
	dir  string // of its ledger; "" for none
	rows int64

	answers sync.WaitGroup // under way

	mu sync.Mutex
	federation.Agent
	// change makes a lie of an update; nil tells the truth.
	change func(h *federation.Header, data []byte) ([]byte, ed25519.PrivateKey)
	said   []federation.Verdict
	ends   []string // runs, and how they ended
}

func partnerKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// certificate makes a partner's certificate, as PEM.
func certificate(t testing.TB, name string, key ed25519.PrivateKey, change func(*x509.Certificate)) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func agreementFile(partner, more string) []byte {
	return fmt.Appendf(nil, "apiVersion: galley/v1\nkind: Agreement\nfederation: topics\npartner: %s\npurpose: topics of headlines\nmodels: [joint, joint-100, joint-1]\nrounds: 1000\n"+
		"min_cohort: 2\nexpires: 2099-01-01\nleaves: {weights: true, rows: {report: exact, most: 1000}, metrics: [loss]}\nclip: 0\nrequires: []\n%s", partner, more)
}

// newAgent enrols a partner and has it join.
func newAgent(t testing.TB, c *Control, name string, rows int64) *agent {
	t.Helper()
	if _, err := c.EnrolPartner(t.Context(), "ann", name, certificate(t, name, partnerKey(name), nil), false); err != nil {
		t.Fatal(err)
	}
	a, err := knownAgent(c, name, rows, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.JoinFederation(t.Context(), name, agreementFile(name, "")); err != nil {
		t.Fatal(err)
	}
	return a
}

// knownAgent is an agent of a partner that has joined.
func knownAgent(c *Control, name string, rows int64, dir string) (*agent, error) {
	agreement, problems := federation.ParseAgreement(agreementFile(name, ""))
	if problems != nil {
		return nil, problems.AsError("agreement")
	}
	a := &agent{c: c, name: name, dir: dir, rows: rows, Agent: federation.Agent{Agreement: agreement, Key: partnerKey(name)}}
	if dir == "" {
		return a, nil
	}
	data, err := os.ReadFile(filepath.Join(dir, name+".json"))
	if errors.Is(err, os.ErrNotExist) {
		return a, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &a.Ledger)
	}
	return a, err
}

// serve attends and answers until ctx ends.
func (a *agent) serve(ctx context.Context) error {
	return a.c.Attend(ctx, a.name, "topics", func(o federation.Offer) error {
		a.answers.Go(func() {
			if _, err := a.answer(ctx, o); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, a.name, err)
			}
		})
		return nil
	}, &Ends{Tell: func(run string, phase trainer.Phase) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.ends = append(a.ends, run+" "+string(phase))
		return nil
	}})
}

// start has agents serve until stop, which waits for what they are answering.
func start(t testing.TB, agents ...*agent) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, a := range agents {
		all.Go(func() { _ = a.serve(ctx) })
	}
	stop = sync.OnceFunc(func() {
		cancel()
		all.Wait()
		for _, a := range agents {
			a.answers.Wait()
		}
	})
	t.Cleanup(stop)
	return stop
}

// localUpdate is what training makes of a round's base at a partner.
func localUpdate(name string, round int, n int) []float32 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", name, round))
	r := mathrand.New(mathrand.NewChaCha8(sum))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.NormFloat64()) / 10
	}
	return out
}

// answer trains for an offer, or sends what it signed before.
func (a *agent) answer(ctx context.Context, o federation.Offer) (federation.Verdict, error) {
	h, data, err := a.train(ctx, o)
	if err != nil {
		return federation.Verdict{}, err
	}
	v, err := a.c.SubmitUpdate(ctx, a.name, h, bytes.NewReader(data))
	for galley.CodeOf(err) == galley.Unavailable && ctx.Err() == nil { // the one before has not ended yet
		time.Sleep(time.Millisecond)
		v, err = a.c.SubmitUpdate(ctx, a.name, h, bytes.NewReader(data))
	}
	if err == nil {
		a.mu.Lock()
		a.said = append(a.said, v)
		a.mu.Unlock()
	}
	return v, err
}

func (a *agent) train(ctx context.Context, o federation.Offer) (federation.SignedHeader, []byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var none federation.SignedHeader
	f, size, err := a.c.FederationWeights(ctx, a.name, o.Federation, o.Run, o.Base)
	if err != nil {
		return none, nil, err
	}
	defer f.Close()
	in, err := federation.NewReader(f, nil)
	if err != nil {
		return none, nil, err
	}
	l := in.Layout()
	if size != l.EncodedSize() {
		return none, nil, fmt.Errorf("%d bytes of %d", size, l.EncodedSize())
	}
	var out bytes.Buffer
	w, err := federation.NewWriter(&out, l)
	if err == nil {
		err = w.Write(localUpdate(a.name, o.Round, int(l.Elements())))
	}
	if err != nil {
		return none, nil, err
	}
	if _, err := w.Close(); err != nil {
		return none, nil, err
	}
	finding, err := federation.Inspect(bytes.NewReader(out.Bytes()), l)
	if err != nil {
		return none, nil, err
	}
	answered, h, err := a.Answer(o, finding, a.rows, map[string]float64{"loss": 1 / float64(o.Round)}, time.Now())
	if err != nil {
		return none, nil, err
	}
	data := out.Bytes()
	if a.change != nil {
		key := a.Key
		var other ed25519.PrivateKey
		if data, other = a.change(&h.Header, data); other != nil {
			key = other
		}
		return federation.Sign(h.Header, key), data, nil
	}
	a.Agent = answered
	if a.dir == "" {
		return h, data, nil
	}
	ledger, err := json.Marshal(a.Ledger)
	if err == nil {
		err = durable.Write(filepath.Join(a.dir, a.name+".json"), 0o600, ledger)
	}
	return h, data, err
}

func (a *agent) verdicts() []federation.Verdict {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.said)
}

// checkRounds holds that a job's closed rounds follow each other, each once, and
// that from the first weights they make the last ones. It returns these.
func checkRounds(t testing.TB, c *Control, job string, first []float32) []float32 {
	t.Helper()
	rounds, err := c.Rounds(t.Context(), job, 0)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(rounds)
	f, err := c.Federation(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	closed, base := 0, galley.Digest("")
	weights := slices.Clone(first)
	for i, r := range rounds {
		if i > 0 && (r.Number < rounds[i-1].Number || r.Number == rounds[i-1].Number && r.Attempt <= rounds[i-1].Attempt) {
			t.Errorf("round %d/%d comes after %d/%d", r.Number, r.Attempt, rounds[i-1].Number, rounds[i-1].Attempt)
		}
		if base != "" && r.Base != base {
			t.Errorf("round %d begins with other weights than the one before made", r.Number)
		}
		base = r.Base
		if r.Phase != federation.Closed {
			continue
		}
		if closed++; r.Number != closed {
			t.Errorf("round %d is the %dth that was closed", r.Number, closed)
		}
		sums := make([]float64, len(weights))
		for _, p := range r.Parts() {
			for k, v := range localUpdate(p.Partner, r.Number, len(weights)) {
				sums[k] += p.Share * p.Scale * float64(v)
			}
		}
		for k := range weights {
			weights[k] = float32(float64(weights[k]) + sums[k])
		}
		base = r.Aggregate
	}
	if closed != f.Closed || f.Base != base && closed > 0 {
		t.Errorf("%d rounds are closed, and %d of them stored", f.Closed, closed)
	}
	return weights
}

package federation

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"galley"
)

var began = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

// A small model.
var testLayout = Layout{{"dense.bias", []int64{3}}, {"dense.weight", []int64{4, 3}}, {"scale", nil}}

func keyOf(partner string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(partner))
	return ed25519.NewKeyFromSeed(seed[:])
}

func agreementOf(partner string) Agreement {
	return Agreement{
		Federation: "headlines", Partner: partner, Purpose: "topics of headlines", Models: []string{"news-topic"},
		Rounds: 100, MinCohort: 2, Expires: began.AddDate(1, 0, 0),
		Leaves: Leaves{Weights: true, Rows: RowCount{Report: Exact, Most: 10_000}, Metrics: []string{"loss", "accuracy"}},
	}
}

func memberOf(partner string) Member {
	return Member{Name: partner, Key: keyOf(partner).Public().(ed25519.PublicKey), Agreement: agreementOf(partner)}
}

func testTerms() Terms {
	return Terms{
		Federation: "headlines", Run: "job-1", Purpose: "topics of headlines", Model: "news-topic", Layout: testLayout.Digest(),
		Rounds: 3, Attempts: 3, Pause: time.Minute, Within: time.Hour, MinCohort: 2,
		Strategy: FedAvg, Weighting: ByRows, MaxShare: 0.6, Metrics: []string{"loss"}, Seed: 7, Recipe: []byte(`{"epochs":1}`),
	}
}

// encode writes weights or an update in the format.
func encode(t testing.TB, l Layout, values ...[]float32) ([]byte, galley.Digest) {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, l)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if err := w.Write(v); err != nil {
			t.Fatal(err)
		}
	}
	digest, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), digest
}

// decode reads weights of a layout.
func decode(t testing.TB, l Layout, data []byte) [][]float32 {
	t.Helper()
	r, err := NewReader(bytes.NewReader(data), l)
	if err != nil {
		t.Fatal(err)
	}
	values := make([][]float32, len(l))
	for i, s := range l {
		n, _ := s.size()
		values[i] = make([]float32, n)
		if err := r.Read(values[i]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return values
}

// random returns numbers for each tensor of a layout.
func random(l Layout, seed uint64) [][]float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	values := make([][]float32, len(l))
	for i, s := range l {
		n, _ := s.size()
		values[i] = make([]float32, n)
		for j := range values[i] {
			values[i][j] = float32(r.NormFloat64())
		}
	}
	return values
}

// A shelf keeps bytes by digest.
type shelf map[galley.Digest][]byte

func (s shelf) open(d galley.Digest) (io.ReadCloser, error) {
	b, ok := s[d]
	if !ok {
		return nil, fmt.Errorf("%s is gone", d.Short())
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// A running round of three partners, a to c, and what it began with.
type bench struct {
	t     testing.TB
	round Round
	base  galley.Digest
	shelf shelf
}

func newBench(t testing.TB, change func(*Terms)) *bench {
	t.Helper()
	terms := testTerms()
	if change != nil {
		change(&terms)
	}
	b := &bench{t: t, shelf: shelf{}}
	data, digest := encode(t, testLayout, random(testLayout, 0)...)
	b.shelf[digest], b.base = data, digest
	f, err := New(terms, digest, began)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"a", "b", "c"}
	for _, name := range names {
		if f, _, err = Advance(f, Joined{memberOf(name)}); err != nil {
			t.Fatal(err)
		}
	}
	f, effects, err := Advance(f, Ticked{began, names})
	if err != nil || f.Round == nil || len(effects) != 1 {
		t.Fatalf("no round was opened: %v, %s", err, f.Waiting)
	}
	b.round = *f.Round
	return b
}

// update is what a partner sends for the round: numbers of a seed, of so many rows.
func (b *bench) update(partner string, seed uint64, rows int64, at time.Time) Submitted {
	data, digest := encode(b.t, testLayout, random(testLayout, seed)...)
	b.shelf[digest] = data
	finding, err := Inspect(bytes.NewReader(data), testLayout)
	if err != nil || finding.Digest != digest {
		b.t.Fatalf("%+v, %v", finding, err)
	}
	offer := b.round
	h := Header{
		Protocol: Protocol, Federation: offer.Terms.Federation, Run: offer.Terms.Run, Round: offer.Number, Attempt: offer.Attempt, Partner: partner,
		Agreement: agreementOf(partner).Digest(), Base: b.base, Update: digest, Rows: rows, Metrics: map[string]float64{"loss": float64(seed)},
	}
	return Submitted{At: at, Header: Sign(h, keyOf(partner)), Finding: finding}
}

// step applies an event and returns its effects.
func (b *bench) step(e Event) []Effect {
	b.t.Helper()
	r, effects, err := Step(b.round, e)
	if err != nil {
		b.t.Fatal(err)
	}
	b.round = r
	return effects
}

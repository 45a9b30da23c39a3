package control

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"galley"
	"galley/federation"
	"galley/trainer"
)

// offered has agents attend a new run, without answering, and returns their
// offers of its first round.
func offered(t *testing.T, w *world, file string, agents ...*agent) (job string, offers map[string]federation.Offer) {
	t.Helper()
	type of struct {
		name  string
		offer federation.Offer
	}
	came := make(chan of, 100)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	for _, a := range agents {
		go func() {
			_ = w.Attend(ctx, a.name, "topics", func(o federation.Offer) error { came <- of{a.name, o}; return nil }, nil)
		}()
	}
	eventually(t, func() bool { return len(w.presence.at("topics")) == len(agents) })
	job = w.submit(t, []byte(file)).ID
	offers = map[string]federation.Offer{}
	for len(offers) < len(agents) {
		select {
		case o := <-came:
			offers[o.name] = o.offer
		case <-time.After(10 * time.Second):
			f, err := w.Federation(t.Context(), job)
			t.Fatalf("%d offers came: %+v %v", len(offers), f, err)
		}
	}
	return job, offers
}

// submitted sends an update and wants a verdict.
func (a *agent) mustAnswer(t *testing.T, o federation.Offer, want federation.Reason) federation.Verdict {
	t.Helper()
	v, err := a.answer(t.Context(), o)
	if err != nil || v.Reason != want {
		t.Errorf("%s: %+v, %v, want %q", a.name, v, err, want)
	}
	return v
}

// An update that counts for nothing costs itself alone, and the record says why:
// the partner sends a better one, and the round is made of three.
func TestRefusedUpdates(t *testing.T) {
	w := newFederationWorld(t)
	a, b, liar := newAgent(t, w.Control, "courier", 100), newAgent(t, w.Control, "gazette", 300), newAgent(t, w.Control, "herald", 100)
	stranger := newAgent(t, w.Control, "stranger", 100)
	job, offers := offered(t, w, strings.ReplaceAll(federationFile, "rounds: 3", "rounds: 1\nmax_norm: 50"), a, b, liar)
	o := offers["herald"]
	none := ed25519.PrivateKey(nil)
	numbers := func(h *federation.Header, data []byte, value float32) []byte {
		in, err := federation.NewReader(bytes.NewReader(data), nil)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		wr, err := federation.NewWriter(&out, in.Layout())
		if err != nil {
			t.Fatal(err)
		}
		values := make([]float32, in.Layout().Elements())
		values[0] = value
		if err := wr.Write(values); err != nil {
			t.Fatal(err)
		}
		if h.Update, err = wr.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	lies := []struct {
		want federation.Reason
		lie  func(h *federation.Header, data []byte) ([]byte, ed25519.PrivateKey)
	}{
		{federation.WrongProtocol, func(h *federation.Header, data []byte) ([]byte, ed25519.PrivateKey) {
			h.Protocol = 9
			return data, none
		}},
		{federation.BadSignature, func(_ *federation.Header, data []byte) ([]byte, ed25519.PrivateKey) { return data, partnerKey("other") }},
		{federation.WrongAgreement, func(h *federation.Header, data []byte) ([]byte, ed25519.PrivateKey) {
			h.Agreement = galley.DigestBytes(nil)
			return data, none
		}},
		{federation.Stale, func(h *federation.Header, data []byte) ([]byte, ed25519.PrivateKey) {
			h.Run = "joint-of-before"
			return data, none
		}},
		{federation.Stale, func(h *federation.Header, data []byte) ([]byte, ed25519.PrivateKey) { h.Round = 7; return data, none }},
		{federation.Stale, func(h *federation.Header, data []byte) ([]byte, ed25519.PrivateKey) {
			h.Base = galley.DigestBytes(nil)
			return data, none
		}},
		{federation.Damaged, func(_ *federation.Header, data []byte) ([]byte, ed25519.PrivateKey) { return data[:len(data)-5], none }},
		{federation.Damaged, func(h *federation.Header, data []byte) ([]byte, ed25519.PrivateKey) {
			h.Update = galley.DigestBytes(nil) // other bytes than were signed
			return data, none
		}},
		{federation.WrongShape, func(h *federation.Header, _ []byte) ([]byte, ed25519.PrivateKey) {
			var out bytes.Buffer
			wr, err := federation.NewWriter(&out, federation.Layout{{Name: "weights", Dims: []int64{3}}})
			if err == nil {
				err = wr.Write(make([]float32, 3))
			}
			if err != nil {
				t.Fatal(err)
			}
			h.Update, _ = wr.Close()
			return out.Bytes(), none
		}},
		{federation.TooLarge, func(_ *federation.Header, data []byte) ([]byte, ed25519.PrivateKey) { return append(data, 0), none }},
		{federation.NotFinite, func(h *federation.Header, data []byte) ([]byte, ed25519.PrivateKey) {
			return numbers(h, data, float32(math.NaN())), none
		}},
		{federation.TooFar, func(h *federation.Header, data []byte) ([]byte, ed25519.PrivateKey) {
			return numbers(h, data, 1000), none
		}},
		{federation.WrongRows, func(h *federation.Header, data []byte) ([]byte, ed25519.PrivateKey) { h.Rows = 1001; return data, none }},
		{federation.NotAgreed, func(h *federation.Header, data []byte) ([]byte, ed25519.PrivateKey) {
			h.Metrics = map[string]float64{"secrets": 1}
			return data, none
		}},
	}
	blobs := len(w.blobsNow(t))
	for _, l := range lies {
		liar.change = l.lie
		liar.mustAnswer(t, o, l.want)
	}
	if now := len(w.blobsNow(t)); now != blobs {
		t.Errorf("%d blobs are kept of what was refused", now-blobs)
	}
	liar.change = nil
	stranger.change = func(h *federation.Header, data []byte) ([]byte, ed25519.PrivateKey) { return data, none }
	asked := o
	asked.Partner, asked.Agreement = "stranger", stranger.Agreement.Digest()
	stranger.mustAnswer(t, asked, federation.NotAsked)
	f, err := w.Federation(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	e, _ := f.Round.Entry("herald")
	if e.Refused != len(lies) || len(e.Refusals) != 8 || e.Standing != federation.Offered || f.Round.Strangers != 1 {
		t.Errorf("%+v, %d strangers", e, f.Round.Strangers)
	}
	for i, r := range e.Refusals {
		if r.Reason != lies[i].want || r.Message == "" {
			t.Errorf("refusal %d: %+v", i, r)
		}
	}
	// Whose a header says it is and whose connection it is are one.
	h, data, err := a.train(t.Context(), offers["courier"])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.SubmitUpdate(t.Context(), "herald", h, bytes.NewReader(data)); galley.CodeOf(err) != galley.PermissionDenied {
		t.Error(err)
	}
	accepted, bytesOf, err := liar.train(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	liar.mustAnswer(t, o, "")
	if v := liar.mustAnswer(t, o, ""); !v.Resent {
		t.Errorf("%+v", v)
	}
	liar.change = func(h *federation.Header, data []byte) ([]byte, ed25519.PrivateKey) { return numbers(h, data, 1), none }
	liar.mustAnswer(t, o, federation.Duplicate)
	liar.change = nil
	a.mustAnswer(t, offers["courier"], "")
	b.mustAnswer(t, offers["gazette"], "")
	if j := w.wait(t, job); j.Phase != trainer.Succeeded {
		t.Fatalf("%+v", j.Error)
	}
	r, digest, err := w.Round(t.Context(), job, 1, 1)
	if err != nil || len(r.Parts()) != 3 {
		t.Errorf("%+v %v", r, err)
	}
	near(t, w.graphWeights(t, "joint@1"), checkRounds(t, w.Control, job, w.graphWeights(t, "topic@1")))
	// What comes after the end is judged by the record, which stays as it is.
	if v, err := w.SubmitUpdate(t.Context(), "herald", accepted, bytes.NewReader(bytesOf)); err != nil || !v.Resent {
		t.Errorf("%+v %v", v, err)
	}
	h.Run = "unknown"
	if v, err := w.SubmitUpdate(t.Context(), "courier", federation.Sign(h.Header, a.Key), nil); err != nil || v.Reason != federation.Stale {
		t.Errorf("%+v %v", v, err)
	}
	if _, again, err := w.Round(t.Context(), job, 1, 1); err != nil || again != digest {
		t.Errorf("the record changed after the end: %v", err)
	}
}

// An endless body is left at the first byte too many, and one that comes too
// slowly when its round is over.
func TestUploadsAreBounded(t *testing.T) {
	w := newFederationWorld(t)
	a, b := newAgent(t, w.Control, "courier", 100), newAgent(t, w.Control, "gazette", 300)
	job, offers := offered(t, w, strings.ReplaceAll(federationFile, "deadline: 20s", "deadline: 8s\nattempts: 1"), a, b)
	h, data, err := a.train(t.Context(), offers["courier"])
	if err != nil {
		t.Fatal(err)
	}
	endless := &counting{r: io.MultiReader(bytes.NewReader(data), zeros{})}
	if v, err := w.SubmitUpdate(t.Context(), "courier", h, endless); err != nil || v.Reason != federation.TooLarge || endless.n > int64(len(data))+1 {
		t.Errorf("%+v %v after %d bytes of %d", v, err, endless.n, len(data))
	}
	// What its header says against it is said before a byte is read.
	early := &counting{r: zeros{}}
	if v, err := w.SubmitUpdate(t.Context(), "courier", federation.Sign(h.Header, partnerKey("other")), early); err != nil || v.Reason != federation.BadSignature || early.n > 0 {
		t.Errorf("%+v %v after %d bytes", v, err, early.n)
	}
	broken := errors.New("the connection is gone")
	if _, err := w.SubmitUpdate(t.Context(), "courier", h, io.MultiReader(bytes.NewReader(data[:20]), failing{broken})); !errors.Is(err, broken) {
		t.Error(err)
	}
	// One at a time of a partner, and the other partner's all the same.
	r, wr := io.Pipe()
	slow := make(chan federation.Verdict, 1)
	go func() {
		v, err := w.SubmitUpdate(context.Background(), "courier", h, r)
		if err != nil {
			t.Error(err)
		}
		slow <- v
	}()
	if _, err := wr.Write(data[:10]); err != nil {
		t.Fatal(err)
	}
	if _, err := w.SubmitUpdate(t.Context(), "courier", h, bytes.NewReader(data)); galley.CodeOf(err) != galley.Unavailable {
		t.Error(err)
	}
	b.mustAnswer(t, offers["gazette"], "")
	if left, err := os.ReadDir(w.temp()); err != nil || len(left) != 1 {
		t.Errorf("%v %v", left, err)
	}
	if j := w.wait(t, job); j.Phase != trainer.Failed || !strings.Contains(j.Error.Error(), "1 of 2 partners gave an update") {
		t.Errorf("%+v %v", j, j.Error)
	}
	go func() { _, _ = wr.Write(data[10:]) }()
	if v := <-slow; v.Reason != federation.Late {
		t.Errorf("%+v", v)
	}
	_ = r.Close()
	eventually(t, func() bool { left, err := os.ReadDir(w.temp()); return err == nil && len(left) == 0 })
	rec, _, err := w.Round(t.Context(), job, 1, 0)
	if e, _ := rec.Entry("courier"); err != nil || e.Standing != federation.Straggler || e.Refused != 2 {
		t.Errorf("%+v %v", e, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type counting struct {
	r io.Reader
	n int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func TestSpoolRoom(t *testing.T) {
	s := newSpoolRoom(100)
	if !s.enter("a") || s.enter("a") || !s.enter("b") {
		t.Error("more than one of a partner, or none")
	}
	s.leave("a")
	if !s.enter("a") {
		t.Error("it has left")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.take(ctx, 1000); err != nil { // alone
		t.Error(err)
	}
	if err := s.take(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	done := make(chan error, 2)
	for range 2 {
		go func() { done <- s.take(t.Context(), 50) }()
	}
	s.give(1000)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

package rpc

import (
	"bytes"
	"fmt"
	"math"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlpb "galley/api/control/v1"
	federationpb "galley/api/federation/v1"

	"galley"
	"galley/federation"
	"galley/task"
)

// A round from its offers to the next one's, as two agents and an operator see
// it.
func TestPartnersRound(t *testing.T) {
	f := newFederatedRun(t, 8, nil, []string{"harbour-gazette", "the-other"})
	offers := map[string]<-chan *federationpb.Offer{}
	for _, name := range f.names {
		offers[name] = f.attend(t, name)
	}
	bases := map[string]bool{}
	for _, name := range f.names {
		o := offered(t, offers[name])
		bases[o.GetBase()] = true
		if o.GetPartner() != name || o.GetRound() != 1 || o.GetRun() != f.job || o.GetMinCohort() != 2 || o.GetWithin().AsDuration() <= 0 ||
			o.GetWithin().AsDuration() > 30*time.Second || !bytes.Contains(o.GetRecipe(), []byte(`"epochs":1`)) || o.GetModel() != "news" || o.GetMetrics()[0] != "loss" {
			t.Errorf("%v", o)
		}
		agent := f.agent(t, name)
		files := fetchModel(t, agent, o.GetRun())
		if len(files) != 3 || len(files[task.ModelFile]) == 0 || len(files[task.TokenizerFile]) == 0 || len(files[task.ConfigFile]) == 0 {
			t.Errorf("%d files", len(files))
		}
		whole, size, err := fetchWeights(t.Context(), agent, o, 0)
		if err != nil || int64(len(whole)) != size || galley.DigestBytes(whole) != galley.Digest(o.GetBase()) {
			t.Fatalf("%d of %d bytes, %v", len(whole), size, err)
		}
		// A download that broke off goes on.
		for _, from := range []int64{size / 3, size - 1, size} {
			if rest, _, err := fetchWeights(t.Context(), agent, o, from); err != nil || !bytes.Equal(rest, whole[from:]) {
				t.Errorf("from %d: %d bytes, %v", from, len(rest), err)
			}
		}
		if _, _, err := fetchWeights(t.Context(), agent, o, size+1); status.Code(err) != codes.OutOfRange || galley.AsError(FromStatus(err)).Subject != "offset" {
			t.Errorf("beyond the end: %v", err)
		}
		update := f.update(t, 1e-3)
		h := f.header(o, update)
		r, _, err := uploadTo(t.Context(), agent, h, bytes.NewReader(update), 1000)
		if err != nil || !r.GetAccepted() || r.GetResent() {
			t.Fatalf("%v, %v", r, err)
		}
		if name == f.names[0] { // the round is still open
			if r, _, err := uploadTo(t.Context(), agent, h, bytes.NewReader(update), 1<<20); err != nil || !r.GetAccepted() || !r.GetResent() {
				t.Errorf("sent again: %v, %v", r, err)
			}
		}
	}
	second := offered(t, offers[f.names[0]])
	if second.GetRound() != 2 || bases[second.GetBase()] || len(bases) != 1 {
		t.Errorf("%v", second)
	}
	// Who declines says why, in the record.
	_, err := f.agent(t, f.names[0]).Decline(t.Context(), &federationpb.DeclineRequest{
		Federation: "news", Run: f.job, Round: 2, Attempt: second.GetAttempt(), Why: "the desk is closed",
	})
	if err != nil {
		t.Fatal(err)
	}
	operators := NewFederations(f.control)
	shown, err := operators.GetFederation(t.Context(), &controlpb.FederationRequest{Job: f.job})
	if err != nil || shown.GetState() != "running" || shown.GetClosed() != 1 || shown.GetRounds() != 2 || len(shown.GetMembers()) != 2 {
		t.Fatalf("%v, %v", shown, err)
	}
	rounds, err := operators.ListRounds(t.Context(), &controlpb.ListRoundsRequest{Job: f.job})
	if err != nil || len(rounds.GetRounds()) == 0 || rounds.GetRounds()[len(rounds.GetRounds())-1].GetPhase() != "closed" {
		t.Fatalf("%v, %v", rounds, err)
	}
	first, err := operators.GetRound(t.Context(), &controlpb.RoundRequest{Job: f.job, Round: 1})
	if err != nil || first.GetDigest() == "" || !strings.Contains(first.GetRecord(), `"coordinator_saw_single_updates":true`) || !first.GetCoordinatorSawSingleUpdates() {
		t.Fatalf("%v, %v", first, err)
	}
	for _, part := range first.GetCohort() {
		if part.GetStanding() != "accepted" || part.GetShare() != 0.5 || part.GetRows() != 100 {
			t.Errorf("%v", part)
		}
		a, err := operators.GetAgreement(t.Context(), &controlpb.AgreementRequest{Digest: part.GetAgreement()})
		if err != nil || a.GetPartner() != part.GetPartner() || a.GetFile() != string(agreementFile(part.GetPartner())) {
			t.Errorf("%v, %v", a, err)
		}
	}
	listed, err := operators.ListPartners(t.Context(), &controlpb.ListPartnersRequest{})
	if err != nil || len(listed.GetPartners()) != 2 || !listed.GetPartners()[0].GetConnected() || listed.GetPartners()[0].GetMemberships()[0].GetFederation() != "news" {
		t.Errorf("%v, %v", listed, err)
	}
}

// Updates that cannot count: each is refused with its reason, and a good one
// counts after all of them.
func TestPartnersUpdatesThatCount(t *testing.T) {
	f := newFederatedRun(t, 8, nil, []string{"harbour-gazette", "the-other"})
	mine, theirs := f.attend(t, "harbour-gazette"), f.attend(t, "the-other")
	o, other := offered(t, mine), offered(t, theirs)
	agent := f.agent(t, "harbour-gazette")
	good := f.update(t, 1e-3)
	for _, tt := range []struct {
		what   string
		data   []byte
		reason string
		change func(*federation.Header)
	}{
		{"a NaN in the update", f.update(t, 1e-3), "not-finite", nil}, // spoilt below
		{"a NaN for a metric", good, "not-finite", func(h *federation.Header) { h.Metrics = map[string]float64{"loss": math.NaN()} }},
		{"a metric that was not asked for", good, "not-agreed", func(h *federation.Header) { h.Metrics = map[string]float64{"accuracy": 1} }},
		{"more rows than declared", good, "wrong-rows", func(h *federation.Header) { h.Rows = 20001 }},
		{"cut off", good[:len(good)-7], "damaged", nil},
		{"nothing", nil, "damaged", nil},
		{"more than the model", append(bytes.Clone(good), 0), "too-large", nil},
		{"other bytes than signed", good, "damaged", func(h *federation.Header) { h.Update = galley.DigestBytes([]byte("x")) }},
		{"another run", good, "stale", func(h *federation.Header) { h.Run = "news-gone" }},
		{"another round", good, "stale", func(h *federation.Header) { h.Round = 7 }},
		{"another base", good, "stale", func(h *federation.Header) { h.Base = galley.DigestBytes([]byte("x")) }},
		{"another agreement", good, "wrong-agreement", func(h *federation.Header) { h.Agreement = galley.DigestBytes([]byte("x")) }},
		{"another version", good, "wrong-protocol", func(h *federation.Header) { h.Protocol = 2 }},
	} {
		if tt.what == "a NaN in the update" {
			copy(tt.data[len(tt.data)-36:], []byte{0, 0, 0xc0, 0x7f})
		}
		h := f.header(o, tt.data)
		if tt.change != nil {
			h = f.header(o, tt.data, tt.change)
		}
		r, _, err := uploadTo(t.Context(), agent, h, bytes.NewReader(tt.data), 1000)
		if err != nil || r.GetAccepted() || r.GetReason() != tt.reason || r.GetMessage() == "" {
			t.Errorf("%s: %v, %v", tt.what, r, err)
		}
	}
	// A header with another's name, or signed with another's key.
	if _, _, err := uploadTo(t.Context(), agent, f.header(other, good), bytes.NewReader(good), 1000); status.Code(err) != codes.PermissionDenied || FromStatus(err).Subject != "header.partner" {
		t.Errorf("another's name: %v", err)
	}
	forged := f.header(other, good)
	forged.Partner = "harbour-gazette"
	if r, _, err := uploadTo(t.Context(), agent, forged, bytes.NewReader(good), 1000); err != nil || r.GetReason() != "bad-signature" {
		t.Errorf("another's key: %v, %v", r, err)
	}
	// A stranger to the federation gets nothing of it.
	stranger := f.dial(t, f.enrol(t, "stranger"))
	if stream, err := stranger.FetchModel(t.Context(), &federationpb.FetchModelRequest{Federation: "news", Run: f.job}); err == nil {
		if chunk, err := stream.Recv(); err == nil {
			t.Errorf("a stranger fetches %s", chunk.GetName())
		}
	}
	if data, _, err := fetchWeights(t.Context(), stranger, o, 0); err == nil {
		t.Errorf("a stranger fetches %d bytes of weights", len(data))
	}
	if r, _, err := uploadTo(t.Context(), agent, f.header(o, good), bytes.NewReader(good), 1000); err != nil || !r.GetAccepted() {
		t.Errorf("a good one at last: %v, %v", r, err)
	}
	w := httptest.NewRecorder()
	f.metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for verdict, n := range map[string]int{"accepted": 1, "failed": 1, "stale": 3, "damaged": 3, "too-large": 1, "not-finite": 2, "bad-signature": 1} {
		if line := fmt.Sprintf("galley_partner_uploads{verdict=%q} %d\n", verdict, n); !strings.Contains(w.Body.String(), line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
}

package rpc

import (
	"bytes"
	"crypto/ed25519"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/federation"
)

func goodHeader() *federationpb.Header {
	return &federationpb.Header{
		Protocol: 1, Federation: "headlines", Run: "j1", Round: 1, Attempt: 1, Partner: "harbour-gazette",
		Agreement: string(galley.DigestBytes([]byte("a"))), Base: string(galley.DigestBytes([]byte("b"))), Update: string(galley.DigestBytes([]byte("u"))),
		Rows: 100, Metrics: map[string]float64{"loss": 0.5}, Capabilities: []string{"secure-aggregation"}, Signature: make([]byte, ed25519.SignatureSize),
	}
}

// Each field of a header that cannot be is an error that names it.
func TestUploadHeaderFields(t *testing.T) {
	if h, err := headerFrom(goodHeader(), "harbour-gazette"); err != nil || h.Rows != 100 || h.Metrics["loss"] != 0.5 || h.Capabilities[0] != federation.SecureAggregation {
		t.Fatalf("%+v, %v", h, err)
	}
	many := map[string]float64{}
	for i := range maxMetrics + 1 {
		many["m"+strings.Repeat("x", i)] = 1
	}
	for _, tt := range []struct {
		field  string
		code   galley.Code
		change func(*federationpb.Header)
	}{
		{"header.protocol", galley.InvalidArgument, func(h *federationpb.Header) { h.Protocol = 0 }},
		{"header.federation", galley.InvalidArgument, func(h *federationpb.Header) { h.Federation = "../etc" }},
		{"header.run", galley.InvalidArgument, func(h *federationpb.Header) { h.Run = strings.Repeat("j", 64) }},
		{"header.round", galley.InvalidArgument, func(h *federationpb.Header) { h.Round = -1 }},
		{"header.round", galley.InvalidArgument, func(h *federationpb.Header) { h.Round = math.MaxInt32 }},
		{"header.attempt", galley.InvalidArgument, func(h *federationpb.Header) { h.Attempt = 0 }},
		{"header.partner", galley.InvalidArgument, func(h *federationpb.Header) { h.Partner = "" }},
		{"header.partner", galley.PermissionDenied, func(h *federationpb.Header) { h.Partner = "the-other" }},
		{"header.agreement", galley.InvalidArgument, func(h *federationpb.Header) { h.Agreement = "sha256:0" }},
		{"header.base", galley.InvalidArgument, func(h *federationpb.Header) { h.Base = strings.Repeat("x", 1<<20) }},
		{"header.update", galley.InvalidArgument, func(h *federationpb.Header) { h.Update = "" }},
		{"header.rows", galley.InvalidArgument, func(h *federationpb.Header) { h.Rows = -1 }},
		{"header.rows", galley.InvalidArgument, func(h *federationpb.Header) { h.Rows = math.MaxInt64 }},
		{"header.metrics", galley.InvalidArgument, func(h *federationpb.Header) { h.Metrics = many }},
		{"header.metrics", galley.InvalidArgument, func(h *federationpb.Header) { h.Metrics["a text of the partner's"] = 1 }},
		{"header.capabilities", galley.InvalidArgument, func(h *federationpb.Header) { h.Capabilities = make([]string, maxCapabilities+1) }},
		{"header.capabilities[0]", galley.InvalidArgument, func(h *federationpb.Header) { h.Capabilities = []string{"a\nb"} }},
		{"header.signature", galley.InvalidArgument, func(h *federationpb.Header) { h.Signature = h.Signature[1:] }},
	} {
		h := goodHeader()
		tt.change(h)
		_, err := headerFrom(h, "harbour-gazette")
		if e := galley.AsError(err); err == nil || e.Code != tt.code || e.Subject != tt.field || e.Remedy == "" || len(e.Message) > 400 {
			t.Errorf("%s: %v", tt.field, err)
		}
	}
	if _, err := headerFrom(nil, "harbour-gazette"); galley.AsError(err).Subject != "header" {
		t.Errorf("none: %v", err)
	}
	// What is not a number is for the round to refuse, and to record.
	h := goodHeader()
	h.Metrics["loss"] = math.NaN()
	if _, err := headerFrom(h, "harbour-gazette"); err != nil {
		t.Errorf("NaN: %v", err)
	}
}

// FuzzUploadHeader holds that no first message of an update makes its reader
// panic, and that a header that is taken is bounded and its partner's own.
func FuzzUploadHeader(f *testing.F) {
	add := func(change func(*federationpb.Header)) {
		h := goodHeader()
		change(h)
		data, err := proto.Marshal(&federationpb.UploadRequest{Part: &federationpb.UploadRequest_Header{Header: h}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	add(func(*federationpb.Header) {})
	add(func(h *federationpb.Header) { h.Partner = "the-other" })
	add(func(h *federationpb.Header) { h.Metrics = map[string]float64{"loss": math.Inf(1), "": math.NaN()} })
	add(func(h *federationpb.Header) { h.Rows, h.Round, h.Attempt = math.MinInt64, math.MinInt32, math.MaxInt32 })
	add(func(h *federationpb.Header) { h.Signature = nil })
	add(func(h *federationpb.Header) { h.Capabilities = []string{"", "privacy-budget"} })
	f.Add([]byte{0x12, 0x01, 'x'})           // a piece first
	f.Add([]byte{0x0a, 0x00, 0x12, 0x00})    // a header, then a piece in its place
	f.Add([]byte{0x0a, 0x02, 0x32, 0xff})    // cut off
	f.Add(bytes.Repeat([]byte{0x0a, 0}, 99)) // a header again and again
	f.Fuzz(func(t *testing.T, data []byte) {
		var m federationpb.UploadRequest
		if proto.Unmarshal(data, &m) != nil {
			return
		}
		h, err := headerFrom(m.GetHeader(), "harbour-gazette")
		if err != nil {
			if e := galley.AsError(err); e.Code == galley.Unknown || e.Subject == "" {
				t.Fatalf("%v", err)
			}
			return
		}
		size := len(h.Federation) + len(h.Run) + len(h.Agreement) + len(h.Base) + len(h.Update) + len(h.Signature) + len(h.Metrics)*64 + len(h.Capabilities)*64
		if h.Partner != "harbour-gazette" || size > 8<<10 || h.Round < 1 || h.Attempt < 1 || h.Rows < 0 {
			t.Fatalf("%+v is taken", h)
		}
		key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
		if signed := federation.Sign(h.Header, key); !signed.Verify(key.Public().(ed25519.PublicKey)) {
			t.Fatalf("%+v cannot be signed", h)
		}
	})
}

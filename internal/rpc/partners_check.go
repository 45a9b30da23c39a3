package rpc

import (
	"crypto/ed25519"
	"fmt"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/federation"
)

// Bounds of numbers and lists of messages.
const (
	maxAttempt = 1 << 20
	maxMetrics = 32
)

// firstOf is the first error of several checks.
func firstOf(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

func checkNumber(field string, n, low, high int64) error {
	if n < low || n > high {
		return galley.Errorf(galley.InvalidArgument, field, "is %d", n).WithRemedy("send a number from %d to %d", low, high)
	}
	return nil
}

func checkDigest(field, text string) error {
	if _, err := galley.ParseDigest(text); err != nil {
		return galley.Errorf(galley.InvalidArgument, field, "%q is not a digest", galley.Clip(text, 80)).WithRemedy("send sha256: and 64 hexadecimal digits")
	}
	return nil
}

func checkCapabilities(field string, names []string) error {
	if len(names) > maxCapabilities {
		return galley.Errorf(galley.InvalidArgument, field, "lists %d", len(names)).WithRemedy("send at most %d", maxCapabilities)
	}
	for i, name := range names {
		if err := galley.CheckName(fmt.Sprintf("%s[%d]", field, i), name); err != nil {
			return err
		}
	}
	return nil
}

// headerFrom reads the header of partner's update. Whether it is of a round that
// is on, and signed by who says so, is judged elsewhere, and recorded.
func headerFrom(h *federationpb.Header, partner string) (federation.SignedHeader, error) {
	if h == nil {
		return federation.SignedHeader{}, galley.Errorf(galley.InvalidArgument, "header", "is missing").WithRemedy("send the header first")
	}
	if err := checkHeader(h); err != nil {
		return federation.SignedHeader{}, err
	}
	if h.GetPartner() != partner {
		return federation.SignedHeader{}, galley.Errorf(galley.PermissionDenied, "header.partner", "is %q, and the certificate is %s's", galley.Clip(h.GetPartner(), 80), partner).
			WithRemedy("send each update with its own partner's certificate")
	}
	out := federation.SignedHeader{Signature: h.GetSignature(), Header: federation.Header{
		Protocol: int(h.GetProtocol()), Federation: h.GetFederation(), Run: h.GetRun(), Round: int(h.GetRound()), Attempt: int(h.GetAttempt()),
		Partner: h.GetPartner(), Agreement: galley.Digest(h.GetAgreement()), Base: galley.Digest(h.GetBase()), Update: galley.Digest(h.GetUpdate()),
		Rows: h.GetRows(), Metrics: h.GetMetrics(),
	}}
	for _, c := range h.GetCapabilities() {
		out.Capabilities = append(out.Capabilities, federation.Capability(c))
	}
	return out, nil
}

// checkHeader holds each field to the form that it can have.
func checkHeader(h *federationpb.Header) error {
	err := firstOf(
		checkNumber("header.protocol", int64(h.GetProtocol()), 1, 1<<16),
		galley.CheckName("header.federation", h.GetFederation()),
		galley.CheckName("header.run", h.GetRun()),
		checkNumber("header.round", int64(h.GetRound()), 1, federation.MaxRounds),
		checkNumber("header.attempt", int64(h.GetAttempt()), 1, maxAttempt),
		galley.CheckName("header.partner", h.GetPartner()),
		checkDigest("header.agreement", h.GetAgreement()),
		checkDigest("header.base", h.GetBase()),
		checkDigest("header.update", h.GetUpdate()),
		checkNumber("header.rows", h.GetRows(), 0, federation.MaxRows),
		checkCapabilities("header.capabilities", h.GetCapabilities()),
		checkNumber("header.signature", int64(len(h.GetSignature())), ed25519.SignatureSize, ed25519.SignatureSize),
	)
	if err != nil {
		return err
	}
	if n := len(h.GetMetrics()); n > maxMetrics {
		return galley.Errorf(galley.InvalidArgument, "header.metrics", "has %d", n).WithRemedy("send at most %d", maxMetrics)
	}
	for name := range h.GetMetrics() {
		if err := galley.CheckName("header.metrics", name); err != nil {
			return err
		}
	}
	return nil
}

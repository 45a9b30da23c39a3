package control

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"galley"
	"galley/federation"
)

func TestCertificatesThatAreRefused(t *testing.T) {
	w := newWorld(t, noOpener{}, 1)
	key := partnerKey("gazette")
	good := certificate(t, "gazette", key, nil)
	der := func(pemBytes []byte) []byte { block, _ := pem.Decode(pemBytes); return block.Bytes }
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gazette"}, NotAfter: time.Now().Add(time.Hour)}
	ec, err := x509.CreateCertificate(rand.Reader, template, template, other.Public(), other)
	if err != nil {
		t.Fatal(err)
	}
	// Signed by somebody else's key.
	foreign, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), partnerKey("herald"))
	if err != nil && !strings.Contains(err.Error(), "signature") {
		t.Fatal(err)
	}
	if foreign == nil {
		foreign = append([]byte{}, der(good)...)
		foreign[len(foreign)-1] ^= 1
	}
	file := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }
	for name, c := range map[string]struct {
		file []byte
		says string
	}{
		"empty":        {nil, "is not one certificate"},
		"DER":          {der(good), "is not one certificate"},
		"two":          {append(append([]byte{}, good...), good...), "is not one certificate"},
		"text after":   {append(append([]byte{}, good...), "more"...), "is not one certificate"},
		"a key":        {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der(good)}), "is not one certificate"},
		"cut off":      {file(der(good)[:50]), "cannot be read"},
		"large":        {make([]byte, maxCertificate+1), "has 16385 bytes"},
		"other's name": {certificate(t, "herald", key, nil), `is that of "herald"`},
		"other kind":   {file(ec), "another kind than Ed25519"},
		"not its own":  {file(foreign), "not signed with its own key"},
		"expired":      {certificate(t, "gazette", key, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }), "has expired"},
		"for ever":     {certificate(t, "gazette", key, func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(6, 0, 0) }), "five years"},
	} {
		_, err := w.EnrolPartner(t.Context(), "ann", "gazette", c.file, false)
		if galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.EnrolPartner(t.Context(), "ann", "../x", good, false); galley.CodeOf(err) != galley.InvalidArgument {
		t.Error(err)
	}
	if all, err := w.Partners(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%+v %v", all, err)
	}
}

func TestPartners(t *testing.T) {
	home := t.TempDir()
	w, err := open(home, noOpener{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.stop() })
	first := certificate(t, "gazette", partnerKey("gazette"), func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) })
	block, _ := pem.Decode(first)
	by := func(want galley.Code, at time.Time) Partner {
		t.Helper()
		p, err := w.PartnerByCertificate(t.Context(), block.Bytes, at)
		if galley.CodeOf(err) != want {
			t.Errorf("%v, want %q", err, want)
		}
		return p
	}
	by(galley.Unauthenticated, time.Now())
	p, err := w.EnrolPartner(t.Context(), "ann", "gazette", first, false)
	if err != nil || p.Fingerprint != galley.DigestBytes(block.Bytes) || !p.Key.Equal(partnerKey("gazette").Public()) || p.Connected {
		t.Fatalf("%+v %v", p, err)
	}
	if got := by("", time.Now()); got.Name != "gazette" { // its clock is half an hour ahead
		t.Errorf("%+v", got)
	}
	by(galley.Unauthenticated, time.Now().Add(-2*time.Hour))
	by(galley.Unauthenticated, time.Now().AddDate(2, 0, 0))

	// An agreement is of the partner whose connection it is, and as it should be.
	join := func(file []byte, want galley.Code) {
		t.Helper()
		if _, _, err := w.JoinFederation(t.Context(), "gazette", file); galley.CodeOf(err) != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
	join(agreementFile("herald", ""), galley.PermissionDenied)
	join(agreementFile("gazette", "sixth: 1\n"), galley.InvalidArgument)
	join(make([]byte, maxAgreement+1), galley.InvalidArgument)
	join(agreementFile("gazette", ""), "")
	if _, _, err := w.JoinFederation(t.Context(), "nobody", agreementFile("nobody", "")); galley.CodeOf(err) != galley.Unauthenticated {
		t.Error(err)
	}
	if err := w.Attend(t.Context(), "gazette", "others", nil, nil); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Error(err)
	}
	attend := func() chan error {
		ended := make(chan error, 1)
		go func() {
			ended <- w.Attend(context.Background(), "gazette", "topics", func(federation.Offer) error { return nil }, nil)
		}()
		return ended
	}
	one := attend()
	eventually(t, func() bool { return w.presence.anywhere("gazette") })
	two := attend()
	if err := <-one; galley.CodeOf(err) != galley.Aborted {
		t.Error(err)
	}
	all, err := w.Partners(t.Context())
	if err != nil || len(all) != 1 || !all[0].Connected || len(all[0].Memberships) != 1 || all[0].Memberships[0].Federation != "topics" {
		t.Errorf("%+v %v", all, err)
	}
	if p, err := w.RevokePartner(t.Context(), "ann", "gazette", "its contract has ended"); err != nil || p.Revoked != "its contract has ended" {
		t.Errorf("%+v %v", p, err)
	}
	if err := <-two; galley.CodeOf(err) != galley.PermissionDenied || !strings.Contains(err.Error(), "its contract has ended") {
		t.Error(err)
	}
	by(galley.PermissionDenied, time.Now())
	join(agreementFile("gazette", ""), galley.PermissionDenied)

	// It is so after a restart, and another certificate does not help.
	w.stop()
	if w, err = open(home, noOpener{}, 1); err != nil {
		t.Fatal(err)
	}
	by(galley.PermissionDenied, time.Now())
	second := certificate(t, "gazette", partnerKey("gazette, renewed"), nil)
	if _, err := w.EnrolPartner(t.Context(), "ann", "gazette", second, false); galley.CodeOf(err) != galley.AlreadyExists {
		t.Error(err)
	}
	if p, err := w.EnrolPartner(t.Context(), "ann", "gazette", second, true); err != nil || p.Revoked == "" || !p.Key.Equal(partnerKey("gazette, renewed").Public()) {
		t.Errorf("%+v %v", p, err)
	}
	by(galley.Unauthenticated, time.Now()) // the one before is nobody's
	if p, err := w.ReinstatePartner(t.Context(), "ann", "gazette"); err != nil || p.Revoked != "" || len(p.Memberships) != 1 {
		t.Errorf("%+v %v", p, err)
	}
	if _, err := w.RevokePartner(t.Context(), "ann", "nobody", ""); galley.CodeOf(err) != galley.NotFound {
		t.Error(err)
	}
	if _, err := w.EnrolPartner(t.Context(), "ann", "herald", certificate(t, "herald", partnerKey("gazette, renewed"), nil), false); galley.CodeOf(err) != galley.AlreadyExists {
		t.Error(err)
	}
	if _, err := w.EnrolPartner(t.Context(), "ann", "herald", certificate(t, "herald", ed25519.NewKeyFromSeed(make([]byte, 32)), nil), false); err != nil {
		t.Error(err)
	}
}

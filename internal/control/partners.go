package control

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"galley"
	"galley/internal/store"
)

// PartnersFolder is where, in the home, the server keeps what partners' agents
// know it by: server.crt, and its key in server.key.
const PartnersFolder = "partners"

// Bounds of a partner's certificate.
const (
	maxCertificate      = 16 << 10                          // bytes, as PEM
	certificateLifetime = 5*366*24*time.Hour + 24*time.Hour // until it ends
	clockGrace          = time.Hour                         // by which the partner's clock may be ahead
	maxReason           = 500
)

// A Partner is an institution that may take part in federations, by its
// certificate.
type Partner struct {
	Name        string
	Certificate []byte // DER
	Fingerprint galley.Digest
	Key         ed25519.PublicKey // of its certificate, and of its signatures
	Expires     time.Time         // its certificate
	Enrolled    time.Time
	Revoked     string // why; "" if it may take part
	Connected   bool
	Memberships []Membership
}

// A Membership is the present agreement of a partner with a federation.
type Membership struct {
	Federation string
	Agreement  galley.Digest
	Expires    time.Time
}

// An enrolled partner is what is asked at each of its calls.
type enrolled struct {
	store.Partner
	key          ed25519.PublicKey
	begins, ends time.Time
}

// roll has the partners in memory, by name and by fingerprint. It follows the
// store: whoever changed that has the roll read anew.
type roll struct {
	reading sync.Mutex // one at a time, so that an old reading never comes last

	mu       sync.RWMutex
	names    map[string]enrolled
	byDigest map[galley.Digest]enrolled
}

// readRoll reads the partners anew.
func (c *Control) readRoll(ctx context.Context) error {
	c.roll.reading.Lock()
	defer c.roll.reading.Unlock()
	all, err := c.store.Partners(ctx)
	if err != nil {
		return err
	}
	names, byDigest := make(map[string]enrolled, len(all)), make(map[galley.Digest]enrolled, len(all))
	for _, p := range all {
		cert, err := x509.ParseCertificate(p.Certificate)
		if err != nil {
			return galley.Errorf(galley.DataLoss, p.Name, "its certificate cannot be read: %w", err).
				WithRemedy("enrol it again: galley federation enrol %s --cert FILE --replace", p.Name)
		}
		key, _ := cert.PublicKey.(ed25519.PublicKey)
		e := enrolled{p, key, cert.NotBefore, cert.NotAfter}
		names[p.Name], byDigest[p.Fingerprint] = e, e
	}
	c.roll.mu.Lock()
	defer c.roll.mu.Unlock()
	c.roll.names, c.roll.byDigest = names, byDigest
	return nil
}

func (r *roll) named(name string) (enrolled, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, ok := r.names[name]
	return e, ok
}

// holder names the partner that has a key.
func (r *roll) holder(key ed25519.PublicKey) (string, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for name, e := range r.names {
		if e.key.Equal(key) {
			return name, true
		}
	}
	return "", false
}

// access returns an enrolled partner that may take part.
func (r *roll) access(name string) (enrolled, error) {
	e, ok := r.named(name)
	switch {
	case !ok:
		return e, galley.Errorf(galley.Unauthenticated, galley.Clip(name, 80), "is not enrolled").WithRemedy("send the coordinator your certificate")
	case e.Revoked != "":
		return e, revoked(name, e.Revoked)
	}
	return e, nil
}

func revoked(name, why string) error {
	return galley.Errorf(galley.PermissionDenied, name, "its access was revoked: %s", why).
		WithRemedy("ask the coordinator to reinstate it")
}

func (e enrolled) partner() Partner {
	return Partner{
		Name: e.Name, Certificate: e.Certificate, Fingerprint: e.Fingerprint, Key: e.key, Expires: e.ends.UTC(), Enrolled: e.Enrolled, Revoked: e.Revoked,
	}
}

// EnrolPartner takes a partner's certificate in, as PEM. One that the partner
// has already is replaced only if that is asked for. Runs under way take its
// new key from their next round on.
func (c *Control) EnrolPartner(ctx context.Context, by galley.Actor, name string, file []byte, replace bool) (Partner, error) {
	cert, err := readCertificate(name, file, c.now())
	if err != nil {
		return Partner{}, err
	}
	if other, ok := c.roll.holder(cert.PublicKey.(ed25519.PublicKey)); ok && other != name {
		return Partner{}, galley.Errorf(galley.AlreadyExists, name, "the certificate has the key of %s", other).
			WithRemedy("each partner has a key of its own: galley partner keygen --partner %s", name)
	}
	p := store.Partner{Name: name, Certificate: cert.Raw, Fingerprint: galley.DigestBytes(cert.Raw), Enrolled: c.now()}
	commit := store.Commit{By: by, At: p.Enrolled, Action: "partner.enrol", Detail: string(p.Fingerprint)}
	if _, err := c.store.EnrolPartner(ctx, p, replace, commit); err != nil {
		return Partner{}, err
	}
	return c.partnerChanged(ctx, name)
}

// readCertificate reads the certificate that a partner made for itself.
func readCertificate(name string, file []byte, now time.Time) (*x509.Certificate, error) {
	if err := galley.CheckName("partner", name); err != nil {
		return nil, err
	}
	wrong := func(format string, args ...any) error {
		return galley.Errorf(galley.InvalidArgument, "certificate", format, args...).
			WithRemedy("have the partner make one: galley partner keygen --partner %s", name)
	}
	if len(file) > maxCertificate {
		return nil, wrong("has %d bytes; at most %d are possible", len(file), maxCertificate)
	}
	block, rest := pem.Decode(file)
	if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
		return nil, wrong("is not one certificate in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, wrong("cannot be read: %w", err)
	}
	key, ok := cert.PublicKey.(ed25519.PublicKey)
	switch {
	case !ok:
		return nil, wrong("has a key of another kind than Ed25519")
	case cert.Subject.CommonName != name:
		return nil, wrong("is that of %q, not of %s", galley.Clip(cert.Subject.CommonName, 80), name)
	case !ed25519.Verify(key, cert.RawTBSCertificate, cert.Signature):
		return nil, wrong("is not signed with its own key")
	case !now.Before(cert.NotAfter):
		return nil, wrong("has expired at %s", cert.NotAfter.UTC().Format(time.RFC3339))
	case cert.NotAfter.Sub(now) > certificateLifetime:
		return nil, wrong("is valid until %s; five years are the most", cert.NotAfter.UTC().Format(time.DateOnly))
	}
	return cert, nil
}

// RevokePartner ends a partner's access: its streams end, and it is taken out
// of rounds that are open, with its updates.
func (c *Control) RevokePartner(ctx context.Context, by galley.Actor, name, why string) (Partner, error) {
	why = line(why)
	if _, err := c.store.SetRevoked(ctx, name, why, store.Commit{By: by, At: c.now(), Action: "partner.revoke", Detail: why}); err != nil {
		return Partner{}, err
	}
	return c.partnerChanged(ctx, name)
}

// ReinstatePartner gives a partner its access back, in runs under way from
// their next round on.
func (c *Control) ReinstatePartner(ctx context.Context, by galley.Actor, name string) (Partner, error) {
	if _, err := c.store.SetRevoked(ctx, name, "", store.Commit{By: by, At: c.now(), Action: "partner.reinstate"}); err != nil {
		return Partner{}, err
	}
	return c.partnerChanged(ctx, name)
}

// partnerChanged has everything follow what is stored of a partner. What a
// crash keeps from following does so when the home is opened again.
func (c *Control) partnerChanged(ctx context.Context, name string) (Partner, error) {
	ctx = context.WithoutCancel(ctx)
	if err := c.readRoll(ctx); err != nil {
		return Partner{}, err
	}
	if e, ok := c.roll.named(name); ok && e.Revoked != "" {
		c.presence.expel(name, revoked(name, e.Revoked))
	}
	for _, r := range c.federations.all() {
		if err := c.admit(ctx, r, name); err != nil {
			return Partner{}, err
		}
	}
	e, ok := c.roll.named(name)
	if !ok {
		return Partner{}, galley.Errorf(galley.NotFound, galley.Clip(name, 80), "there is no such partner")
	}
	all, err := c.withMemberships(ctx, []Partner{e.partner()}, name)
	if err != nil {
		return Partner{}, err
	}
	return all[0], nil
}

// Partners lists the partners, by name.
func (c *Control) Partners(ctx context.Context) ([]Partner, error) {
	c.roll.mu.RLock()
	names := c.roll.names
	c.roll.mu.RUnlock()
	all := make([]Partner, 0, len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		all = append(all, names[name].partner())
	}
	return c.withMemberships(ctx, all, "")
}

// withMemberships says what partners, by name, have joined.
func (c *Control) withMemberships(ctx context.Context, all []Partner, of string) ([]Partner, error) {
	memberships, err := c.store.Memberships(ctx, of, "")
	if err != nil {
		return nil, err
	}
	for _, m := range memberships {
		i, ok := slices.BinarySearchFunc(all, m.Partner, func(p Partner, name string) int { return strings.Compare(p.Name, name) })
		if ok {
			all[i].Memberships = append(all[i].Memberships, Membership{m.Federation, m.Digest, m.Agreement.Expires})
		}
	}
	for i := range all {
		all[i].Connected = c.presence.anywhere(all[i].Name)
	}
	return all, nil
}

// PartnerByCertificate returns whose certificate it is, if its partner may call
// now. It asks memory alone.
func (c *Control) PartnerByCertificate(ctx context.Context, der []byte, now time.Time) (Partner, error) {
	d := galley.DigestBytes(der)
	c.roll.mu.RLock()
	e, ok := c.roll.byDigest[d]
	c.roll.mu.RUnlock()
	switch {
	case !ok:
		return Partner{}, galley.Errorf(galley.Unauthenticated, "certificate", "%s is not enrolled", d.Short()).
			WithRemedy("send it to the coordinator, who takes it in with galley federation enrol")
	case e.Revoked != "":
		return Partner{}, revoked(e.Name, e.Revoked)
	case !now.Before(e.ends):
		return Partner{}, galley.Errorf(galley.Unauthenticated, "certificate", "that of %s has expired at %s", e.Name, e.ends.UTC().Format(time.RFC3339)).
			WithRemedy("make another with galley partner keygen --rotate, and send it to the coordinator")
	case now.Add(clockGrace).Before(e.begins):
		return Partner{}, galley.Errorf(galley.Unauthenticated, "certificate", "that of %s is valid from %s on", e.Name, e.begins.UTC().Format(time.RFC3339)).
			WithRemedy("look at the clocks of both sides")
	}
	return e.partner(), nil
}

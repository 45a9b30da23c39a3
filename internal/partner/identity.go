package partner

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"galley"
	"galley/internal/durable"
)

// The files of an identity. The certificate is in both: that in a file of its
// own is what the coordinator gets.
const (
	identityFile        = "identity.pem" // key and certificate; never leaves
	certificateFile     = "partner.crt"
	nextIdentityFile    = "identity-next.pem" // of a rotation, until it is accepted
	nextCertificateFile = "partner-next.crt"
	identityLock        = "identity.lock"
)

// Bounds of an identity.
const (
	MaxDays     = 1825 // that a certificate is valid
	maxIdentity = 64 << 10

	// clockSlack is how far two institutions' clocks may be apart for a new
	// certificate to be valid at once.
	clockSlack = time.Hour
)

const (
	keyBlock         = "PRIVATE KEY"
	certificateBlock = "CERTIFICATE"
)

// An Identity is a partner's key, which signs its updates and opens its
// connections, and the certificate by which a coordinator knows it.
type Identity struct {
	Partner     string
	Key         ed25519.PrivateKey
	Certificate *x509.Certificate
}

// Fingerprint names the certificate.
func (i Identity) Fingerprint() galley.Digest { return galley.DigestBytes(i.Certificate.Raw) }

// tls is the identity as connections show it.
func (i Identity) tls() *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{i.Certificate.Raw}, PrivateKey: i.Key, Leaf: i.Certificate}
}

// Keygen makes a partner's identity in a home, which it creates. One that is
// there is never written over. It returns the path of the certificate.
func Keygen(home, partner string, days int, now time.Time) (Identity, string, error) {
	if err := galley.CheckName("partner", partner); err != nil {
		return Identity{}, "", err
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return Identity{}, "", durable.WriteError(home, err)
	}
	path := filepath.Join(home, certificateFile)
	var made Identity
	err := withIdentities(home, func() error {
		old, err := loadIdentity(home)
		switch galley.CodeOf(err) {
		case galley.NotFound:
			made, err = writeIdentity(home, identityFile, certificateFile, partner, days, now)
			return err
		case "":
			return galley.Errorf(galley.AlreadyExists, home, "has the key of %s already", old.Partner).
				WithRemedy("its certificate is %s; galley partner keygen --rotate makes the next key", path)
		default:
			return err
		}
	})
	return made, path, err
}

// Rotate makes the identity that takes the place of the present one as soon as
// the coordinator knows its certificate, whose path it returns.
func Rotate(home string, days int, now time.Time) (Identity, string, error) {
	path := filepath.Join(home, nextCertificateFile)
	var made Identity
	err := withIdentities(home, func() error {
		present, err := loadIdentity(home)
		if err != nil {
			return err
		}
		switch _, err := readIdentity(filepath.Join(home, nextIdentityFile)); galley.CodeOf(err) {
		case galley.NotFound:
			made, err = writeIdentity(home, nextIdentityFile, nextCertificateFile, present.Partner, days, now)
			return err
		case "":
			return galley.Errorf(galley.AlreadyExists, home, "has a next key already, which the coordinator has not accepted yet").
				WithRemedy("let the coordinator have %s", path)
		default:
			return err
		}
	})
	return made, path, err
}

// withIdentities works on the identities of a home, of which an agent that
// serves may be changing one.
func withIdentities(home string, work func() error) error {
	if _, err := os.Stat(home); errors.Is(err, fs.ErrNotExist) {
		return noIdentity(home)
	}
	l, err := acquire(filepath.Join(home, identityLock), 5*lockPatience)
	if err != nil {
		return err
	}
	return errors.Join(work(), l.release())
}

func noIdentity(home string) error {
	return galley.Errorf(galley.NotFound, home, "there is no key of a partner").
		WithRemedy("make one: galley partner keygen --home %s --partner NAME", home)
}

// loadIdentity reads the present identity, and heals the certificate's own file.
func loadIdentity(home string) (Identity, error) {
	i, err := readIdentity(filepath.Join(home, identityFile))
	if galley.CodeOf(err) == galley.NotFound {
		return i, noIdentity(home)
	}
	if err != nil {
		return i, err
	}
	return i, healCertificate(filepath.Join(home, certificateFile), i)
}

// healCertificate writes the certificate's own file, unless it is there.
func healCertificate(path string, i Identity) error {
	want := certificatePEM(i.Certificate.Raw)
	if got, err := os.ReadFile(path); err == nil && bytes.Equal(got, want) {
		return nil
	}
	return durable.WriteError(path, durable.Write(path, 0o644, want))
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: der})
}

// nextIdentity reads the identity of a rotation; false if there is none.
func nextIdentity(home string) (Identity, bool, error) {
	i, err := readIdentity(filepath.Join(home, nextIdentityFile))
	if galley.CodeOf(err) == galley.NotFound {
		return i, false, nil
	}
	return i, err == nil, err
}

// promote makes the next identity the present one. It is one rename: a kill
// leaves the one or the other.
func promote(home string, next Identity) error {
	return withIdentities(home, func() error {
		i, ok, err := nextIdentity(home)
		if err != nil || !ok || i.Fingerprint() != next.Fingerprint() {
			return err
		}
		path := filepath.Join(home, identityFile)
		if err := os.Rename(filepath.Join(home, nextIdentityFile), path); err != nil {
			return durable.WriteError(path, err)
		}
		if err := durable.SyncFolder(home); err != nil {
			return durable.WriteError(home, err)
		}
		if err := os.Remove(filepath.Join(home, nextCertificateFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return durable.WriteError(home, err)
		}
		return healCertificate(filepath.Join(home, certificateFile), next)
	})
}

// writeIdentity makes a key and its certificate.
func writeIdentity(home, file, certificate, partner string, days int, now time.Time) (Identity, error) {
	if days < 1 || days > MaxDays {
		return Identity{}, galley.Errorf(galley.InvalidArgument, "--days", "is %d", days).WithRemedy("write a number from 1 to %d", MaxDays)
	}
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Identity{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return Identity{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: partner},
		NotBefore: now.Add(-clockSlack).UTC(), NotAfter: now.AddDate(0, 0, days).UTC(),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		return Identity{}, galley.Errorf(galley.Internal, "certificate", "%w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Identity{}, galley.Errorf(galley.Internal, "key", "%w", err)
	}
	data := append(pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: pkcs8}), certificatePEM(der)...)
	path := filepath.Join(home, file)
	if err := errors.Join(durable.Clean(path), durable.Write(path, 0o600, data)); err != nil {
		return Identity{}, durable.WriteError(path, err)
	}
	i, err := readIdentity(path)
	if err != nil {
		return i, err
	}
	return i, healCertificate(filepath.Join(home, certificate), i)
}

// readIdentity reads an identity that nobody else may read.
func readIdentity(path string) (Identity, error) {
	f, err := os.Open(path)
	if err != nil {
		return Identity{}, durable.ReadError(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Identity{}, durable.ReadError(path, err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return Identity{}, galley.Errorf(galley.PermissionDenied, path, "holds a key, and others can read it or write it: its mode is %04o", mode).
			WithRemedy("chmod 600 %s; if somebody may have had it, make another with galley partner keygen --rotate", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxIdentity))
	if err != nil {
		return Identity{}, durable.ReadError(path, err)
	}
	i, err := parseIdentity(data)
	if err != nil {
		return Identity{}, galley.Errorf(galley.DataLoss, path, "is not what galley partner keygen wrote: %w", err).
			WithRemedy("put it back from a copy, or make another in a new home and have it enrolled")
	}
	return i, nil
}

func parseIdentity(data []byte) (i Identity, err error) {
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			break
		}
		switch b.Type {
		case keyBlock:
			key, err := x509.ParsePKCS8PrivateKey(b.Bytes)
			if err != nil {
				return i, err
			}
			i.Key, _ = key.(ed25519.PrivateKey)
		case certificateBlock:
			if i.Certificate, err = x509.ParseCertificate(b.Bytes); err != nil {
				return i, err
			}
		}
	}
	if i.Key == nil || i.Certificate == nil {
		return i, errors.New("it lacks an Ed25519 key or a certificate")
	}
	if public, ok := i.Certificate.PublicKey.(ed25519.PublicKey); !ok || !public.Equal(i.Key.Public()) {
		return i, errors.New("its certificate is of another key")
	}
	i.Partner = i.Certificate.Subject.CommonName
	return i, galley.CheckName("partner", i.Partner)
}

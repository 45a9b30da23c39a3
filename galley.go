// Package galley is the vocabulary shared by every other package: references
// to models, digests, actors and coded errors.
//
// It imports the standard library only, so that any layer may import it.
package galley

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"regexp"
)

// Digest names bytes by their content: "sha256:" and 64 lower-case
// hexadecimal digits.
type Digest string

var digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// DigestBytes returns the digest of b.
func DigestBytes(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// DigestReader consumes r and returns the digest and the number of its bytes.
func DigestReader(r io.Reader) (Digest, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return "", n, err
	}
	return SumDigest(h), n, nil
}

// SumDigest returns the digest of what has been written to h, a SHA-256 hash.
func SumDigest(h hash.Hash) Digest {
	return Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
}

// ParseDigest checks that s has the form of a digest.
func ParseDigest(s string) (Digest, error) {
	if !digestPattern.MatchString(s) {
		return "", Errorf(InvalidArgument, "digest", "%q is not a digest", Clip(s, 80)).
			WithRemedy("write sha256: and 64 hexadecimal digits")
	}
	return Digest(s), nil
}

// Hex returns the 64 hexadecimal digits without the algorithm's name.
func (d Digest) Hex() string {
	if len(d) < len("sha256:") {
		return ""
	}
	return string(d[len("sha256:"):])
}

// Short returns the first twelve digits, for people to read.
func (d Digest) Short() string {
	h := d.Hex()
	if len(h) > 12 {
		h = h[:12]
	}
	return h
}

// An Actor is who asked for a change: a person, a token, the platform itself.
type Actor string

// System is the actor of changes that galley makes by itself.
const System Actor = "galley"

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// CheckName reports whether s may name a model, a dataset or an alias.
// subject is what the error calls the name, for example "model".
func CheckName(subject, s string) error {
	if !namePattern.MatchString(s) {
		return Errorf(InvalidArgument, subject, "%q is not a name", Clip(s, 80)).
			WithRemedy("use 1 to 63 lower-case letters, digits, dots, dashes or underscores, beginning with a letter or digit")
	}
	return nil
}

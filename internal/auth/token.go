package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"time"

	"galley"
)

// Prefix begins every secret, so that people and scanners know one when they
// see it.
const Prefix = "glt_"

// A Token is what is kept of a secret that gives a role. The secret itself is
// seen once, by who asked for it.
type Token struct {
	ID       string // public: in lists, logs and the audit log
	Name     string // the actor that it makes of its bearer
	Role     Role
	Tenant   string   // whose names it may change; "" for those of all
	Digest   [32]byte // SHA-256 of the secret
	Created  time.Time
	Expires  time.Time // zero for never
	Revoked  time.Time // zero if it was not
	Replaces string    // the token that it was rotated from
}

// Live reports whether a token opens anything at a time.
func (t Token) Live(now time.Time) bool {
	return t.Revoked.IsZero() && (t.Expires.IsZero() || now.Before(t.Expires))
}

// Caller is who bears the token.
func (t Token) Caller() Caller {
	return Caller{Actor: galley.Actor(t.Name), Role: t.Role, Tenant: t.Tenant, Token: t.ID}
}

// Check reports whether a token can be kept: its name, role and tenant.
func (t Token) Check() error {
	if _, err := ParseRole(string(t.Role)); err != nil {
		return err
	}
	if err := galley.CheckName("name", t.Name); err != nil {
		return err
	}
	if a := galley.Actor(t.Name); a == Local.Actor || a == galley.System {
		return galley.Errorf(galley.InvalidArgument, "name", "%q is galley's own name for a caller", t.Name).WithRemedy("choose another")
	}
	if t.Tenant == "" {
		return nil
	}
	if t.Role == Admin {
		return galley.Errorf(galley.InvalidArgument, "tenant", "an admin belongs to no tenant").
			WithRemedy("leave --tenant out, or choose the role operator or engineer")
	}
	return galley.CheckName("tenant", t.Tenant)
}

// Sizes of a secret: "glt_", the id, "_", 256 random bits.
const (
	idDigits     = 16 // 80 bits
	secretDigits = 52 // 256 bits
)

var digits = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewSecret makes a secret, the id that is written in it, and its digest.
func NewSecret() (secret, id string, digest [32]byte) {
	var bits [10 + 32]byte
	rand.Read(bits[:]) // never fails
	id = digits.EncodeToString(bits[:10])
	secret = Prefix + id + "_" + digits.EncodeToString(bits[10:])
	return secret, id, sha256.Sum256([]byte(secret))
}

// idOf is the id that is written in a secret; false if s is not as long as
// one, or begins with something else.
func idOf(s string) (string, bool) {
	if len(s) != len(Prefix)+idDigits+1+secretDigits || s[:len(Prefix)] != Prefix {
		return "", false
	}
	return s[len(Prefix) : len(Prefix)+idDigits], true
}

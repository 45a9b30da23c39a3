package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"galley"
)

// A Keyring holds tokens and says whom a secret belongs to. It is safe for
// concurrent use; asking takes no lock. The times that it is asked with are those
// of a [Clock].
type Keyring struct {
	tokens atomic.Pointer[map[string]Token] // by id; never changed in place
	change sync.Mutex
}

// NewKeyring makes a keyring of tokens.
func NewKeyring(tokens []Token) *Keyring {
	k := &Keyring{}
	k.tokens.Store(&map[string]Token{})
	k.Put(tokens...)
	return k
}

// Put adds tokens, or replaces those with the same ids.
func (k *Keyring) Put(tokens ...Token) {
	k.change.Lock()
	defer k.change.Unlock()
	next := maps.Clone(*k.tokens.Load())
	for _, t := range tokens {
		next[t.ID] = t
	}
	k.tokens.Store(&next)
}

// List returns all tokens, the oldest first.
func (k *Keyring) List() []Token {
	return slices.SortedFunc(maps.Values(*k.tokens.Load()), func(a, b Token) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
}

// Get returns the token with an id.
func (k *Keyring) Get(id string) (Token, bool) {
	t, ok := (*k.tokens.Load())[id]
	return t, ok
}

// HasLive reports whether there is a live token with a role.
func (k *Keyring) HasLive(r Role, now time.Time) bool {
	for _, t := range *k.tokens.Load() {
		if t.Role == r && t.Live(now) {
			return true
		}
	}
	return false
}

// Authenticate returns the token that a secret belongs to. The error is
// Unauthenticated, and says no more of an unknown secret than that it is.
func (k *Keyring) Authenticate(secret string, now time.Time) (Token, error) {
	var t Token
	known := false
	if id, ok := idOf(secret); ok {
		t, known = (*k.tokens.Load())[id]
	}
	digest := sha256.Sum256([]byte(secret))
	// In constant time, also for an id that is not there.
	if subtle.ConstantTimeCompare(digest[:], t.Digest[:]) != 1 || !known {
		return Token{}, unknown()
	}
	if err := t.dead(now); err != nil {
		return Token{}, err
	}
	return t, nil
}

// Check returns the error of a token that no longer opens anything, nil of a
// live one: what was begun with it may go on for long.
func (k *Keyring) Check(id string, now time.Time) error {
	t, known := k.Get(id)
	if !known {
		return unknown()
	}
	return t.dead(now)
}

// dead is the error of a token that is revoked or has expired.
func (t Token) dead(now time.Time) error {
	switch {
	case !t.Revoked.IsZero():
		return unauthenticated("the token %s (%s) was revoked on %s", t.ID, t.Name, day(t.Revoked)).
			WithRemedy("ask an admin for another")
	case !t.Live(now):
		return unauthenticated("the token %s (%s) expired on %s", t.ID, t.Name, day(t.Expires)).
			WithRemedy("ask an admin for another; `galley auth token rotate` renews one before it expires")
	}
	return nil
}

func unauthenticated(format string, args ...any) *galley.Error {
	return galley.Errorf(galley.Unauthenticated, "token", format, args...)
}

func unknown() error {
	return unauthenticated("the token is not known here").
		WithRemedy("set GALLEY_TOKEN to a token of this server; `galley auth token create` makes one")
}

// Missing is the error of a request that shows no token where one is needed.
func Missing() error {
	return unauthenticated("none was sent, and this server asks for one").
		WithRemedy("set GALLEY_TOKEN, or send the header Authorization: Bearer TOKEN")
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

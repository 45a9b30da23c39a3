package control

import (
	"context"
	"sync"
	"time"

	"galley"
	"galley/internal/auth"
	"galley/internal/store"
	"galley/internal/store/sqlite"
)

// How long tokens live.
const (
	TokenLifetime = 90 * 24 * time.Hour // if none is asked for
	TokenOverlap  = 24 * time.Hour      // of a rotated token, if none is asked for

	maxLifetime = 10 * 365 * 24 * time.Hour
	minLifetime = time.Second
)

// Tokens are the tokens of a home: kept in its store, held in memory to ask.
type Tokens struct {
	ring  *auth.Keyring
	store *sqlite.Store
	clock *auth.Clock
	// A change of the store and that of the ring are one: else an older state
	// of a token could be put over a newer one.
	change sync.Mutex
}

// OpenTokens reads a home's tokens; clock is the system's if nil.
func OpenTokens(ctx context.Context, s *sqlite.Store, clock *auth.Clock) (*Tokens, error) {
	if clock == nil {
		clock = systemClock()
	}
	all, err := s.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	return &Tokens{ring: auth.NewKeyring(all), store: s, clock: clock}, nil
}

// NoTokens are those of a server without a home: none, and none can be made.
func NoTokens() *Tokens { return &Tokens{ring: auth.NewKeyring(nil), clock: systemClock()} }

func systemClock() *auth.Clock {
	began := time.Now()
	return auth.NewClock(time.Now, func() time.Duration { return time.Since(began) })
}

// Now is the time by the clock that tokens expire by.
func (t *Tokens) Now() time.Time { return t.clock.Now() }

// Authenticate returns the token that a secret belongs to.
func (t *Tokens) Authenticate(secret string) (auth.Token, error) {
	return t.ring.Authenticate(secret, t.Now())
}

// Check returns the error of a token that no longer opens anything.
func (t *Tokens) Check(id string) error { return t.ring.Check(id, t.Now()) }

// HasLive reports whether there is a live token with a role.
func (t *Tokens) HasLive(r auth.Role) bool { return t.ring.HasLive(r, t.Now()) }

// Live reports whether a token opens anything now.
func (t *Tokens) Live(token auth.Token) bool { return token.Live(t.Now()) }

// NextExpiry is when the next live token expires that has no live successor;
// zero if none does.
func (t *Tokens) NextExpiry() time.Time {
	now := t.Now()
	replaced := map[string]bool{}
	all := t.ring.List()
	for _, token := range all {
		if token.Live(now) {
			replaced[token.Replaces] = true
		}
	}
	var next time.Time
	for _, token := range all {
		if token.Expires.IsZero() || replaced[token.ID] || !token.Live(now) {
			continue
		}
		if next.IsZero() || token.Expires.Before(next) {
			next = token.Expires
		}
	}
	return next
}

// List returns all tokens, dead ones included, the oldest first.
func (t *Tokens) List() []auth.Token { return t.ring.List() }

// A TokenRequest asks for a token.
type TokenRequest struct {
	Role     auth.Role
	Name     string        // empty for its id
	Tenant   string        // empty for none
	Lifetime time.Duration // 0 for ever
}

// Create makes a token, and returns it with its secret, which is kept nowhere.
func (t *Tokens) Create(ctx context.Context, by galley.Actor, r TokenRequest) (auth.Token, string, error) {
	now := t.Now()
	expires, err := expiry(now, r.Lifetime)
	if err != nil {
		return auth.Token{}, "", err
	}
	secret, id, digest := auth.NewSecret()
	made := auth.Token{ID: id, Name: r.Name, Role: r.Role, Tenant: r.Tenant, Digest: digest, Created: now, Expires: expires}
	if made.Name == "" {
		made.Name = id
	}
	t.change.Lock()
	defer t.change.Unlock()
	err = t.store.AddToken(ctx, made, store.Commit{By: by, At: now, Action: "auth.create", Detail: describeToken(made)})
	if err != nil {
		return auth.Token{}, "", err
	}
	t.ring.Put(made)
	return made, secret, nil
}

// Rotate makes a token of the same name, role and tenant as another, which
// lives on for the overlap, unless it expires before.
func (t *Tokens) Rotate(ctx context.Context, by galley.Actor, id string, overlap, lifetime time.Duration) (auth.Token, string, error) {
	now := t.Now()
	if overlap < 0 || overlap > maxLifetime {
		return auth.Token{}, "", galley.Errorf(galley.OutOfRange, "overlap", "%s is not from 0 to %s", overlap, maxLifetime)
	}
	expires, err := expiry(now, lifetime)
	if err != nil {
		return auth.Token{}, "", err
	}
	t.change.Lock()
	defer t.change.Unlock()
	old, ok := t.ring.Get(id)
	if !ok {
		return auth.Token{}, "", noToken(id)
	}
	secret, newID, digest := auth.NewSecret()
	next := auth.Token{
		ID: newID, Name: old.Name, Role: old.Role, Tenant: old.Tenant, Digest: digest, Created: now, Expires: expires, Replaces: id,
	}
	if old, err = t.store.RotateToken(ctx, next, now.Add(overlap), store.Commit{
		By: by, At: now, Action: "auth.rotate", Detail: describeToken(next) + ", in place of " + id,
	}); err != nil {
		return auth.Token{}, "", err
	}
	t.ring.Put(old, next)
	return next, secret, nil
}

// Revoke ends a token at once.
func (t *Tokens) Revoke(ctx context.Context, by galley.Actor, id string) (auth.Token, error) {
	t.change.Lock()
	defer t.change.Unlock()
	old, ok := t.ring.Get(id)
	if !ok {
		return auth.Token{}, noToken(id)
	}
	revoked, err := t.store.RevokeToken(ctx, id, store.Commit{By: by, At: t.Now(), Action: "auth.revoke", Detail: describeToken(old)})
	if err != nil {
		return auth.Token{}, err
	}
	t.ring.Put(revoked)
	return revoked, nil
}

// NoteRefusal leaves an entry in the audit log that a known caller was refused
// what it asked for.
func (t *Tokens) NoteRefusal(ctx context.Context, c auth.Caller, what, why string) error {
	return t.store.NoteRefusal(ctx, what, store.Commit{
		By: c.Actor, At: t.Now(), Action: "auth.refuse", Detail: galley.Clip(why, 200),
	})
}

// describeToken is what the audit log says of a token.
func describeToken(t auth.Token) string {
	s := "role " + string(t.Role)
	if t.Tenant != "" {
		s += ", tenant " + t.Tenant
	}
	if t.Expires.IsZero() {
		return s + ", expires never"
	}
	return s + ", expires " + t.Expires.UTC().Format(time.RFC3339)
}

func expiry(now time.Time, lifetime time.Duration) (time.Time, error) {
	switch {
	case lifetime == 0:
		return time.Time{}, nil
	case lifetime < minLifetime || lifetime > maxLifetime:
		return time.Time{}, galley.Errorf(galley.OutOfRange, "expires", "%s is not from %s to %s", lifetime, minLifetime, maxLifetime).
			WithRemedy("write for example 90d, or never")
	default:
		return now.Add(lifetime), nil
	}
}

func noToken(id string) error {
	return galley.Errorf(galley.NotFound, galley.Clip(id, 80), "there is no such token").
		WithRemedy("list them with galley auth token list")
}

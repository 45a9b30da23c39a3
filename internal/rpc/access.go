package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"galley"
	"galley/internal/auth"
	"galley/internal/control"
)

// Bounds of what failed attempts may cost: lines of the log, and entries of
// the audit log. A secret has 256 bits, so that no rate of guessing finds one;
// a live token is taken also from an address that others fail from.
const (
	failureBurst = 10              // failed attempts of an address at once
	failureEvery = 2 * time.Second // and one more each
	failureKeys  = 4096            // addresses that are remembered
	refusalBurst = 20              // entries for a token's refused requests at once
	refusalEvery = time.Minute     // and one more each
	refusalKeys  = 1024            // tokens that are remembered

	noteTime = 5 * time.Second // for one entry
)

// Access decides who may call. It is one for all ports of a server.
type Access struct {
	tokens   *control.Tokens
	log      *slog.Logger
	failures *auth.Limiter
	refusals *auth.Limiter
	counts   accessCounts
}

// NewAccess makes an Access that asks tokens.
func NewAccess(tokens *control.Tokens, log *slog.Logger) *Access {
	return &Access{
		tokens: tokens, log: log,
		failures: auth.NewLimiter(failureBurst, failureEvery, failureKeys),
		refusals: auth.NewLimiter(refusalBurst, refusalEvery, refusalKeys),
	}
}

// NewOpenAccess makes an Access that knows no token.
func NewOpenAccess(log *slog.Logger) *Access { return NewAccess(control.NoTokens(), log) }

// An Entrance is a port's way in.
type Entrance struct {
	*Access
	required bool
}

// Entrance makes a way in that asks each caller for a token, if required, or
// else takes who shows none for whoever is on this machine.
func (a *Access) Entrance(required bool) *Entrance { return &Entrance{a, required} }

// admit finds out who asks for something that needs a permission, and adds
// the caller and the request's origin to its context. authorization are the
// values of the header of that name, address is the caller's HOST:PORT.
func (e *Entrance) admit(ctx context.Context, p auth.Permission, authorization []string, address string) (context.Context, error) {
	caller := auth.Local
	switch {
	case p == auth.Open:
		caller = auth.Caller{}
	case len(authorization) > 0 || e.required:
		var err error
		if caller, err = e.authenticate(authorization); err != nil {
			return ctx, e.failed(err, address)
		}
	}
	ctx = galley.WithOrigin(ctx, galley.Origin{Address: address, Token: caller.Token})
	return auth.WithCaller(ctx, caller), nil
}

// authenticate returns the caller that a header names.
func (e *Entrance) authenticate(authorization []string) (auth.Caller, error) {
	switch len(authorization) {
	case 0:
		return auth.Caller{}, auth.Missing()
	case 1:
	default:
		return auth.Caller{}, badHeader("%d values", len(authorization))
	}
	scheme, secret, ok := strings.Cut(authorization[0], " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return auth.Caller{}, badHeader("another scheme than Bearer")
	}
	token, err := e.tokens.Authenticate(strings.TrimSpace(secret))
	if err != nil {
		return auth.Caller{}, err
	}
	return token.Caller(), nil
}

func badHeader(format string, args ...any) error {
	return galley.Errorf(galley.Unauthenticated, "authorization", "the header has "+format, args...).
		WithRemedy("send one header Authorization: Bearer TOKEN")
}

// failed counts a failed attempt, and says so in the log while its address
// has not failed too often.
func (e *Entrance) failed(err error, address string) error {
	if wait, ok := e.failures.Allow(host(address), e.tokens.Now()); !ok {
		e.counts.limited.Add(1)
		return galley.Errorf(galley.ResourceExhausted, "token", "too many attempts from %s failed", host(address)).
			WithRemedy("set GALLEY_TOKEN to a live token and try again").WithRetry(max(wait, time.Second))
	}
	e.counts.unknown.Add(1)
	e.log.Warn("a caller was not let in", "address", address, "why", galley.AsError(err).Message)
	return err
}

// host is what failures of an address are counted under: an IPv4 address, or
// the network of an IPv6 address, of which one caller has as many as it wants.
func host(address string) string {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return address
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.Is6() {
		if network, err := ip.Prefix(64); err == nil {
			return network.String()
		}
	}
	return ip.String()
}

// authorize reports whether the caller in ctx may do what needs a permission.
func authorize(ctx context.Context, p auth.Permission, what string) error {
	if p == auth.Open {
		return nil
	}
	caller, ok := auth.CallerOf(ctx)
	if !ok {
		return auth.Missing()
	}
	return caller.Require(p, what)
}

// unlisted is the error of what the table of access has no line for.
func unlisted(what string) error {
	return galley.Errorf(galley.PermissionDenied, what, "is not in the table of access, so nobody may call it").
		WithRemedy("add it to the table of internal/auth")
}

// noteRefusal leaves an entry in the audit log if err refuses a caller that
// showed a token.
func (e *Entrance) noteRefusal(ctx context.Context, what string, err error) {
	if !errors.Is(err, auth.ErrRefused) {
		return
	}
	e.counts.refused.Add(1)
	caller, _ := auth.CallerOf(ctx)
	if caller.Token == "" {
		return
	}
	if _, ok := e.refusals.Allow(caller.Token, e.tokens.Now()); !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTime)
	defer cancel()
	refused := galley.AsError(err)
	if err := e.tokens.NoteRefusal(ctx, caller, what, subjectPrefix(refused.Subject)+refused.Message); err != nil {
		e.log.Error("a refusal is not in the audit log", "token", caller.Token, "what", what, "error", err)
	}
}

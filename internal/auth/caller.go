package auth

import (
	"context"
	"errors"

	"galley"
)

// A Caller is who a request comes from.
type Caller struct {
	Actor  galley.Actor
	Role   Role
	Tenant string // whose names it may change; "" for those of all
	Token  string // id of the token that was shown; "" if none was
}

// Local is the caller of requests on loopback addresses that show no token
// where none is asked for: whoever is on this machine.
var Local = Caller{Actor: "local", Role: Admin}

// ErrRefused is the cause of the errors of callers that are known and may not
// do what they ask for.
var ErrRefused = errors.New("refused")

// Require returns an error, caused by ErrRefused, if the caller lacks a
// permission. what names the thing that is asked for.
func (c Caller) Require(p Permission, what string) error {
	if c.Role.May(p) {
		return nil
	}
	return refused(what, "the role %s may not do this", c.Role).
		WithRemedy("ask with a token whose role is %s", list(With(p)))
}

// refused makes an error that ErrRefused causes.
func refused(what, format string, args ...any) *galley.Error {
	e := galley.Errorf(galley.PermissionDenied, what, format, args...)
	e.Cause = ErrRefused
	return e
}

// Foreign is the error of a name that belongs to another tenant, or to none.
func Foreign(name string, c Caller) error {
	return refused(name, "does not belong to the tenant %s", c.Tenant).
		WithRemedy("choose another name, or ask with a token of the tenant that owns it")
}

// list writes roles as "a, b or c".
func list(roles []Role) string {
	s := ""
	for i, r := range roles {
		switch {
		case i == 0:
		case i == len(roles)-1:
			s += " or "
		default:
			s += ", "
		}
		s += string(r)
	}
	return s
}

type callerKey struct{}

// WithCaller returns a context of a request from c.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf returns the caller of the request that ctx belongs to; false for
// what galley does by itself.
func CallerOf(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}

package galley

import "context"

// An Origin says how a request reached galley, for the audit log. The zero
// value is a request of galley itself or of a command on the home.
type Origin struct {
	Address string // of the caller, HOST:PORT
	Token   string // the id of the token that was shown, never the token
}

type originKey struct{}

// WithOrigin returns a context of a request from o.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// OriginOf returns the origin of the request that ctx belongs to.
func OriginOf(ctx context.Context) Origin {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o
}

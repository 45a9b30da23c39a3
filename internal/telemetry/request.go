package telemetry

import (
	"context"
	"crypto/rand"
	"strings"
)

// maxRequestID bounds a request's name that comes from outside.
const maxRequestID = 128

type requestKey struct{}

// WithRequestID names the request that ctx belongs to. A name from outside
// that is too long or has other characters than letters, digits and ._:/+=@-
// is replaced, as is an empty one: names are written into logs.
func WithRequestID(ctx context.Context, id string) (context.Context, string) {
	if id == "" || len(id) > maxRequestID || strings.ContainsFunc(id, odd) {
		id = rand.Text()
	}
	return context.WithValue(ctx, requestKey{}, id), id
}

// odd reports a character that a request's name may not have.
func odd(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._:/+=@-", r)
}

// RequestID is the name of the request that ctx belongs to; empty if it has
// none.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

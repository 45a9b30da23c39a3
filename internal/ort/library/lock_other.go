//go:build !unix

package library

import "context"

// lock does nothing: no library is obtained on such systems.
func lock(context.Context, string) (unlock func(), err error) { return func() {}, nil }

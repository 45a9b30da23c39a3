// Package serving answers requests with registered versions: it finds the
// version that a request goes to, keeps it open while requests use it, and
// switches to another without failing one.
//
//	request -> Table.Acquire: name, version or alias -> open version
//	        -> Lease.Infer: encode -> batcher: run with others, or alone -> decode
//	        -> Lease.Release
//
// A batcher for each version bounds what runs and what waits: window chooses
// which rows run together, cost learns what that saves. Statistics count it.
//
// A switch opens the new version first, then points traffic at it, and closes
// a version only when its last request has been answered. The version before
// stays open, so that a rollback waits for nothing; what nobody asks for any
// more is closed after a time.
package serving

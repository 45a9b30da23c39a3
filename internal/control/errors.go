package control

import (
	"galley"
)

// passing reports whether an error may go away by itself, so that trying again
// makes sense.
func passing(err error) bool {
	switch galley.CodeOf(err) {
	case galley.Unavailable, galley.ResourceExhausted, galley.Aborted, galley.Canceled, galley.DeadlineExceeded:
		return true
	default:
		return false
	}
}

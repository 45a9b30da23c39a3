package rpc

import (
	"time"

	"galley"
)

// sendWithin sends a message of a stream, for so long at most: a client that
// does not read would hold what the method holds for ever. After an error
// nothing more may be sent, and the method must return: that ends what is
// still under way.
func sendWithin(limit time.Duration, what string, send func() error) error {
	sent := make(chan error, 1)
	go func() { sent <- send() }()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case err := <-sent:
		return err
	case <-late.C:
		return galley.Errorf(galley.DeadlineExceeded, what, "the client has read nothing for %s", limit).
			WithRemedy("read what comes as it comes, and try again")
	}
}

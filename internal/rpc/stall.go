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
	return within(limit, send, func() error {
		return galley.Errorf(galley.DeadlineExceeded, what, "the client has read nothing for %s", limit).
			WithRemedy("read what comes as it comes, and try again")
	})
}

// receiveWithin does the same for a message that a client sends. What it is
// received into must not be used again after an error.
func receiveWithin(limit time.Duration, what string, receive func() error) error {
	return within(limit, receive, func() error {
		return galley.Errorf(galley.DeadlineExceeded, what, "the client has sent nothing for %s", limit).
			WithRemedy("send what there is as it is there, and try again")
	})
}

func within(limit time.Duration, do, late func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return late()
	}
}
